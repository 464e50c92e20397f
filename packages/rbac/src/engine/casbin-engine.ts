import { createRequire } from 'node:module'
import { append } from '@marty/core'
import type { Enforcer as CasbinEnforcer } from 'casbin'
import { applies, type Condition, type Question } from '../conditions/evaluate.js'
import { ANYONE, serviceSubject, subjectName, type PolicyDefinition } from '../model/definition.js'
import { parsePermission, scopeMatches, type Effect } from '../model/permission.js'

/**
 * The Casbin model. It is code and never read from a file, because text in a matcher is executed. Cheap
 * terms come first. Casbin's `==` is JavaScript's loose equality, so both sides of every comparison must
 * be strings: rows are verified when they are read back, and requests contain only names that the policy
 * defines. One request carries all roles of a caller, so that a deny of one role overrides an allow of
 * another. A row refers to its condition by number; the text of a condition never reaches Casbin.
 */
const MODEL = `
[request_definition]
r = roles, environment, resource, scope, action, conditions
[policy_definition]
p = subject, environment, resource, scope, action, eft, condition
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = (p.action == '*' || r.action == p.action) && (p.resource == '*' || r.resource == p.resource) && \
(p.environment == '*' || r.environment == p.environment) && scopeMatches(r.scope, p.scope, p.eft) && \
subjectMatches(r.roles, p.subject, p.eft) && conditionApplies(r.conditions, p.condition, p.eft)
`

const POLICY_FIELDS = 7
const EFFECTS: readonly string[] = ['allow', 'deny'] satisfies Effect[]

/** The condition field of a row without a condition. */
export const UNCONDITIONAL = ''

export type PolicyRow = readonly [
  subject: string,
  environment: string,
  resource: string,
  scope: string,
  action: string,
  effect: Effect,
  condition: string
]
export type RoleLink = readonly [child: string, parent: string]

/**
 * Casbin, loaded with a policy. Its decisions are slow: the compiled index is made from its rows and
 * compared with its decisions.
 */
export interface CasbinEngine {
  /** Casbin's own rows, read back after loading. */
  readonly rows: readonly PolicyRow[]
  readonly links: readonly RoleLink[]
  decide (permission: string, question: Question): boolean
  /**
   * The same decision, but Casbin sees only the rows that name this permission or a wildcard. Use it to
   * compare many decisions of a large policy.
   */
  decideAmongCandidates (permission: string, question: Question, conditions: Conditions): boolean
  /** The number of these rows. */
  candidates (permission: string): number
}

/** Evaluates conditions, indexed by their number. The self-check replaces them to try every possible result. */
export type Conditions = ReadonlyArray<Pick<Condition, 'evaluate'>>

/** The part of a request that the conditions of rows need. */
interface ConditionInput {
  readonly question: Question
  readonly conditions: Conditions
}

/**
 * Loads a policy into Casbin and reads back what it holds. No promise is awaited: Casbin is asynchronous
 * only for the sake of databases, and its own work is complete when a call returns. If it were not, the
 * self-check would find that no role inherits.
 */
export function createCasbinEngine (definition: PolicyDefinition): CasbinEngine {
  casbin ??= loadCasbin()
  const { OwnFunctionsEnforcer, newModelFromString } = casbin
  // Pass rows as arrays: no line of text is parsed, so a name cannot inject a second row.
  const model = newModelFromString(MODEL)
  model.model.get('p')!.get('p')!.policy = definition.rules.map(
    ({ subject, environment, resource, scope, action, effect, condition }) => [
      subjectName(subject),
      environment,
      resource,
      scope,
      action,
      effect,
      condition === null ? UNCONDITIONAL : String(condition)
    ]
  )
  model.model.get('g')!.get('g')!.policy = [...definition.roles].flatMap(([child, { inherits }]) =>
    inherits.map(parent => [child, parent])
  )
  const enforcer = new OwnFunctionsEnforcer()
  void enforcer.initWithModelAndAdapter(model)
  addFunctions(enforcer, definition)
  const rows = model.getPolicy('p', 'p').map(verifyRow)
  const links = model.getPolicy('g', 'g').map(verifyLink)
  const roleManager = enforcer.getRoleManager()
  for (const [child, parent] of links) void roleManager.addLink(child, parent)
  const policy = enforcer.getModel().model.get('p')!.get('p')!
  const all = policy.policy
  const candidates = candidateRows(all)

  const enforce = (permission: string, question: Question, conditions: Conditions): boolean => {
    const { roles, environment, attributes } = question
    const { resource, scope, action } = parsePermission(permission)!
    const allowed: unknown = enforcer.enforceSync(
      subjectsOf(roles, attributes, definition),
      environment,
      resource,
      scope,
      action,
      { question, conditions } satisfies ConditionInput
    )
    return allowed === true
  }
  return {
    rows,
    links,
    decide: (permission, question) => enforce(permission, question, definition.conditions),
    decideAmongCandidates (permission, question, conditions) {
      const named = candidates(permission)
      policy.policy = named.length === 1 ? named[0]! : named.flat()
      try {
        return enforce(permission, question, conditions)
      } finally {
        policy.policy = all
      }
    },
    candidates: permission => candidates(permission).reduce((sum, rows) => sum + rows.length, 0)
  }
}

/**
 * The Casbin subjects of a caller: those of the given roles that the policy defines, and the service. A
 * caller cannot bring any other name.
 */
function subjectsOf (
  roles: readonly string[],
  { principal, service }: Question['attributes'],
  definition: PolicyDefinition
): readonly string[] {
  const held = roles.filter(role => typeof role === 'string' && definition.roles.has(role))
  return principal?.kind === 'service' && typeof principal.id === 'string' && typeof service === 'string'
    ? [...held, serviceSubject(principal.id, service)]
    : held
}

const require = createRequire(import.meta.url)

/** Loads Casbin together with the first policy: reading a policy, such as to report its mistakes, needs none. */
function loadCasbin () {
  // Use Casbin's CommonJS build: it decides twice as fast as the ESM build, which is compiled for older engines.
  const { Enforcer, FunctionMap, newModelFromString } = require('casbin') as typeof import('casbin')

  /**
   * An enforcer without Casbin's own pattern functions: their wildcards match more than one segment, and
   * each function slows down every decision.
   */
  class OwnFunctionsEnforcer extends Enforcer {
    protected override fm = new FunctionMap()
  }
  return { OwnFunctionsEnforcer, newModelFromString }
}

let casbin: ReturnType<typeof loadCasbin> | null = null

/** Adds the functions of the model. All must be synchronous: Casbin treats a promise as an allow. */
function addFunctions (enforcer: CasbinEnforcer, { separations, requirements }: PolicyDefinition): void {
  const roleManager = enforcer.getRoleManager()
  const inherits = (roles: readonly string[], role: string): boolean =>
    roles.some(held => roleManager.syncedHasLink!(held, role))

  void enforcer.addFunction('scopeMatches', (scope: string, pattern: string, effect: Effect) =>
    scopeMatches(scope, pattern, effect)
  )

  // The subjects that are derived from a caller's roles.
  const derived = new Map<string, (roles: readonly string[]) => boolean>([[ANYONE, () => true]])
  for (const [separation, { roles: separated }] of separations.entries()) {
    derived.set(
      subjectName({ kind: 'separated', separation }),
      roles => separated.filter(role => inherits(roles, role)).length >= 2
    )
  }
  for (const [requirement, sufficient] of requirements.entries()) {
    derived.set(subjectName({ kind: 'unmet', requirement }), roles => !sufficient.some(role => inherits(roles, role)))
  }
  void enforcer.addFunction('subjectMatches', (roles: readonly string[], subject: string, effect: Effect) => {
    const isDerived = derived.get(subject)
    if (isDerived !== undefined) return isDerived(roles)
    // A deny applies only to directly assigned roles: an inherited one would remove what a role was given
    // on purpose.
    return effect === 'deny' ? roles.includes(subject) : inherits(roles, subject)
  })

  void enforcer.addFunction(
    'conditionApplies',
    ({ conditions, question }: ConditionInput, condition: string, effect: Effect) =>
      condition === UNCONDITIONAL || applies(effect, conditions[Number(condition)]!.evaluate(question))
  )
}

/** Indexes rows by the names in them, to find the rows that can affect a permission without scanning all. */
function candidateRows (rows: string[][]): (permission: string) => string[][][] {
  const byName = new Map<string, string[][]>()
  for (const row of rows) append(byName, `${row[2]}:${row[4]}`, row)
  return permission => {
    const { resource, action } = parsePermission(permission)!
    return [`${resource}:${action}`, `${resource}:*`, `*:${action}`, '*:*']
      .map(name => byName.get(name))
      .filter(rows => rows !== undefined)
  }
}

function verifyRow (row: readonly unknown[]): PolicyRow {
  if (
    row.length !== POLICY_FIELDS ||
    !row.every(field => typeof field === 'string') ||
    !EFFECTS.includes(row[5] as string)
  ) {
    throw new Error(`Casbin holds a row that is not a rule: ${JSON.stringify(row)}`)
  }
  return row as unknown as PolicyRow
}

function verifyLink (link: readonly unknown[]): RoleLink {
  if (link.length !== 2 || !link.every(field => typeof field === 'string')) {
    throw new Error(`Casbin holds a role link that is not a pair of names: ${JSON.stringify(link)}`)
  }
  return link as unknown as RoleLink
}

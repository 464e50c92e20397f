import { createRequire } from 'node:module'
import type { Enforcer as CasbinEnforcer } from 'casbin'
import { applies, type Condition, type Question } from '../conditions/evaluate.js'
import { ANYONE, serviceSubject, subjectName, type PolicyDefinition } from '../model/definition.js'
import { parsePermission, scopeMatches, type Effect } from '../model/permission.js'
import { append } from '../model/role-graph.js'

// Casbin's CommonJS build, because it decides twice as fast as the other one, which is compiled for older engines.
const { Enforcer, FunctionMap, newModelFromString } = createRequire(import.meta.url)(
  'casbin'
) as typeof import('casbin')

/**
 * The model. It is code, never read from a file: text that reaches a matcher is executed. Cheap terms come first.
 * Casbin's `==` is JavaScript's loose one, so both sides of every comparison are known to be strings: rows are verified
 * when they are read back, and a request is made of names that the policy defines.
 * One request carries all of a caller's roles, so that a deny by one of them beats an allow by another. A row names
 * its condition by number; the text of a condition never reaches Casbin.
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
(p.environment == '*' || r.environment == p.environment) && scope(r.scope, p.scope, p.eft) && \
speaksOf(r.roles, p.subject, p.eft) && holds(r.conditions, p.condition, p.eft)
`

const POLICY_FIELDS = 7
const EFFECTS: readonly string[] = ['allow', 'deny'] satisfies Effect[]

/** What a row's condition is when it has none. */
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

/** Casbin, loaded with a policy. It decides slowly; it is what the compiled index is made from and compared with. */
export interface CasbinEngine {
  /** Casbin's own rows, read back after loading. */
  readonly rows: readonly PolicyRow[]
  readonly links: readonly RoleLink[]
  decide (permission: string, question: Question): boolean
  /** The same, shown only the rows that name this permission or a wildcard: to compare many decisions of a large policy. */
  decideAmongCandidates (permission: string, question: Question, conditions: Conditions): boolean
  /** How many rows that is. */
  candidates (permission: string): number
}

/** What conditions come to, by their number; a stand-in lets the self-check try what they could come to. */
export type Conditions = ReadonlyArray<Pick<Condition, 'evaluate'>>

/** What a request brings for the conditions of rows. */
interface Asked {
  readonly question: Question
  readonly conditions: Conditions
}

/**
 * Gives a policy to Casbin and reads back what it holds. Nothing is waited for: what is asynchronous in Casbin serves
 * databases, and its own work is done when a call returns. If it were not, the self-check would find no role inheriting.
 */
export function createCasbinEngine (definition: PolicyDefinition): CasbinEngine {
  // Rows as arrays: nothing is spliced into lines of text, so no name can forge a second row.
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

  const ask = (permission: string, question: Question, conditions: Conditions): boolean => {
    const { roles, environment, attributes } = question
    const { resource, scope, action } = parsePermission(permission)!
    const answer: unknown = enforcer.enforceSync(
      callerOf(roles, attributes, definition),
      environment,
      resource,
      scope,
      action,
      { question, conditions } satisfies Asked
    )
    return answer === true
  }
  return {
    rows,
    links,
    decide: (permission, question) => ask(permission, question, definition.conditions),
    decideAmongCandidates (permission, question, conditions) {
      const named = candidates(permission)
      policy.policy = named.length === 1 ? named[0]! : named.flat()
      try {
        return ask(permission, question, conditions)
      } finally {
        policy.policy = all
      }
    },
    candidates: permission => candidates(permission).reduce((sum, rows) => sum + rows.length, 0)
  }
}

/** The subjects a caller is, for Casbin: the policy's roles among the given ones, and the service. Other names are nobody's to bring. */
function callerOf (
  roles: readonly string[],
  { principal, service }: Question['attributes'],
  definition: PolicyDefinition
): readonly string[] {
  const held = roles.filter(role => typeof role === 'string' && definition.roles.has(role))
  return principal?.kind === 'service' && typeof principal.id === 'string' && typeof service === 'string'
    ? [...held, serviceSubject(principal.id, service)]
    : held
}

/** Without Casbin's own pattern functions: their wildcards match more than one segment, and each costs every decision. */
class OwnFunctionsEnforcer extends Enforcer {
  protected override fm = new FunctionMap()
}

/** All of them answer at once: Casbin takes a promise for an allow. */
function addFunctions (enforcer: CasbinEnforcer, { separations, requirements }: PolicyDefinition): void {
  const roleManager = enforcer.getRoleManager()
  const inherits = (roles: readonly string[], role: string): boolean =>
    roles.some(held => roleManager.syncedHasLink!(held, role))

  void enforcer.addFunction('scope', (asked: string, pattern: string, effect: Effect) =>
    scopeMatches(asked, pattern, effect)
  )

  const special = new Map<string, (roles: readonly string[]) => boolean>([[ANYONE, () => true]])
  for (const [separation, { roles: apart }] of separations.entries()) {
    special.set(
      subjectName({ kind: 'separated', separation }),
      roles => apart.filter(role => inherits(roles, role)).length >= 2
    )
  }
  for (const [requirement, needed] of requirements.entries()) {
    special.set(subjectName({ kind: 'lacking', requirement }), roles => !needed.some(role => inherits(roles, role)))
  }
  void enforcer.addFunction('speaksOf', (roles: readonly string[], subject: string, effect: Effect) => {
    const isIt = special.get(subject)
    if (isIt !== undefined) return isIt(roles)
    // An inherited deny would take from a role what it was given on purpose: denies reach directly assigned roles only.
    return effect === 'deny' ? roles.includes(subject) : inherits(roles, subject)
  })

  void enforcer.addFunction('holds', (asked: Asked, condition: string, effect: Effect) =>
    condition === UNCONDITIONAL || applies(effect, asked.conditions[Number(condition)]!.evaluate(asked.question)))
}

/** Rows by what they name, so that those that can matter to a permission are found without looking at all. */
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
    throw new Error(`Casbin holds a row that is no rule: ${JSON.stringify(row)}`)
  }
  return row as unknown as PolicyRow
}

function verifyLink (link: readonly unknown[]): RoleLink {
  if (link.length !== 2 || !link.every(field => typeof field === 'string')) {
    throw new Error(`Casbin holds a role link that is none: ${JSON.stringify(link)}`)
  }
  return link as unknown as RoleLink
}

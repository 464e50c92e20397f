import { Enforcer, FunctionMap, newModelFromString, type Adapter, type Model } from 'casbin'
import type { PolicyDefinition } from './definition.js'
import { parsePermission, scopeMatches, type Effect } from './permission.js'

/**
 * The model. It is code, never read from a file: text that reaches a matcher is executed. Cheap terms come first.
 * Casbin's `==` is JavaScript's loose one, so both sides of every comparison are checked to be strings beforehand.
 * One request carries all of a caller's roles, so that a deny by one of them beats an allow by another.
 */
const MODEL = `
[request_definition]
r = roles, environment, resource, scope, action
[policy_definition]
p = role, environment, resource, scope, action, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = (p.action == '*' || r.action == p.action) && (p.resource == '*' || r.resource == p.resource) && \
(p.environment == '*' || r.environment == p.environment) && scope(r.scope, p.scope, p.eft) && holds(r.roles, p.role, p.eft)
`

const POLICY_FIELDS = 6
const EFFECTS: readonly string[] = ['allow', 'deny'] satisfies Effect[]

export type PolicyRow = readonly [role: string, environment: string, resource: string, scope: string, action: string, effect: Effect]
export type RoleLink = readonly [child: string, parent: string]

/** Casbin, loaded with a policy. It decides slowly; it is what the compiled index is made from and compared with. */
export interface CasbinEngine {
  /** Casbin's own rows, read back after loading. */
  readonly rows: readonly PolicyRow[]
  readonly links: readonly RoleLink[]
  decide (roles: readonly string[], permission: string, environment: string): boolean
}

/** Gives a policy to Casbin and reads back what it holds. */
export async function createCasbinEngine (definition: PolicyDefinition): Promise<CasbinEngine> {
  const rows = definition.rules.map(({ role, environment, resource, scope, action, effect }) => [role, environment, resource, scope, action, effect])
  const links = [...definition.roles].flatMap(([child, { inherits }]) => inherits.map(parent => [child, parent]))
  const enforcer = new OwnFunctionsEnforcer()
  await enforcer.initWithModelAndAdapter(newModelFromString(MODEL), arrayAdapter(rows, links))
  await addFunctions(enforcer)
  return {
    rows: (await enforcer.getPolicy()).map(verifyRow),
    links: (await enforcer.getGroupingPolicy()).map(verifyLink),
    decide (roles, permission, environment) {
      const parts = parsePermission(permission)
      if (parts === null || typeof environment !== 'string') return false
      const answer: unknown = enforcer.enforceSync(roles, environment, parts.resource, parts.scope, parts.action)
      return answer === true
    }
  }
}

/** Without Casbin's own pattern functions: their wildcards match more than one segment, and each costs every decision. */
class OwnFunctionsEnforcer extends Enforcer {
  protected override fm: FunctionMap = new FunctionMap()
}

/** Casbin passes whatever a row holds, `undefined` included: every argument is checked before it is compared. */
async function addFunctions (enforcer: Enforcer): Promise<void> {
  const texts = (...values: readonly unknown[]): boolean => values.every(value => typeof value === 'string')
  await enforcer.addFunction('scope', (asked: unknown, pattern: unknown, effect: unknown) =>
    texts(asked, pattern, effect) && scopeMatches(asked as string, pattern as string, effect as Effect))
  const roleManager = enforcer.getRoleManager()
  await enforcer.addFunction('holds', (roles: unknown, role: unknown, effect: unknown) => {
    if (!Array.isArray(roles) || !texts(role, effect)) return false
    // An inherited deny would take from a role what it was given on purpose: denies reach directly assigned roles only.
    if (effect === 'deny') return roles.includes(role)
    return roles.some(held => roleManager.syncedHasLink?.(held as string, role as string) === true)
  })
}

/** Rows as arrays: nothing is spliced into lines of text, so no name can forge a second row. */
function arrayAdapter (rows: string[][], links: string[][]): Adapter {
  const readOnly = async (): Promise<never> => { throw new Error('The policy is changed in its file') }
  return {
    async loadPolicy (model: Model) {
      model.model.get('p')?.get('p')?.policy.push(...rows)
      model.model.get('g')?.get('g')?.policy.push(...links)
    },
    savePolicy: readOnly,
    addPolicy: readOnly,
    removePolicy: readOnly,
    removeFilteredPolicy: readOnly
  }
}

function verifyRow (row: readonly unknown[]): PolicyRow {
  if (row.length !== POLICY_FIELDS || !row.every(field => typeof field === 'string') || !EFFECTS.includes(row[5] as string)) {
    throw new Error(`Casbin holds a row that is no rule: ${JSON.stringify(row)}`)
  }
  return Object.freeze([...row]) as unknown as PolicyRow
}

function verifyLink (link: readonly unknown[]): RoleLink {
  if (link.length !== 2 || !link.every(field => typeof field === 'string')) {
    throw new Error(`Casbin holds a role link that is none: ${JSON.stringify(link)}`)
  }
  return Object.freeze([...link]) as unknown as RoleLink
}

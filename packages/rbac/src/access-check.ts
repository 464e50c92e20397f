import {
  didYouMean, MartyError, RuleInvalid, type Call, type Check, type Operation, type OperationFacts
} from '@marty/core'
import { policyMatrix } from './analysis/matrix.js'
import type { Attributes } from './conditions/evaluate.js'
import { AccessDenied, AttributesFailed } from './errors.js'
import { parsePermission } from './model/permission.js'
import type { Policy } from './engine/policy.js'
import type { Access, Rbac } from './rbac.js'

/**
 * The attributes of a resource, as loaded by `config.security.when`; null or undefined when the resource
 * does not exist.
 */
export type LoadedResource = Readonly<Record<string, unknown>> | null | undefined

/** One check of a rule, evaluated against one generation of the policy. */
export type AccessPredicate = (call: Pick<Call, 'principal'>, policy: Policy) => boolean

/**
 * The check that the guard runs before every operation whose rule names a permission or roles. If a rule
 * names both, both must hold.
 */
export function accessCheck (access: Access): Check {
  return {
    name: '@marty/rbac',
    stage: 'authorize',
    keys: ['permission', 'roles', 'when'],
    describe ({ rule: { permission } }) {
      return permission === undefined ? {} : { grantedTo: granted(permission, access.rbac) }
    },
    compile ({ rule }) {
      const when = loaderOf(rule)
      const { permission, roles } = rule
      if (permission === undefined && roles === undefined) return null
      const permitted = permission === undefined ? null : permissionPredicate(access, permission, 'security.permission')
      const held = roles === undefined ? null : rolesPredicate(access, roles, 'security.roles')
      const refusal = permission === undefined ? {} : { data: { permission } }
      return call => {
        const { policy } = access.rbac
        if (permitted !== null && !permitted(call, policy)) {
          if (when === null || !call.canDefer || access.filter(policy, call.principal, permission!).kind === 'none') {
            throw new AccessDenied(refusal)
          }
          call.pending = async call => {
            const resource = await load(when, call.input)
            if (!access.decide(policy, call.principal, permission!, resource)) throw new AccessDenied(refusal)
          }
        }
        if (held !== null && !held(call, policy)) throw new AccessDenied()
      }
    }
  }
}

/** The tables of the policies for which a report was made, because each operation of a report needs the same one. */
const tables = new WeakMap<Policy, ReadonlyMap<string, Granted>>()
type Granted = NonNullable<OperationFacts['grantedTo']>

function granted (permission: string, { policy, environment }: Rbac): Granted {
  let table = tables.get(policy)
  if (table === undefined) {
    const { roles, environments } = policyMatrix(policy, { environment })
    const rows = environments.flatMap(({ resources }) => resources.flatMap(({ rows }) => rows))
    table = new Map(rows.map(({ permission, cells }) => {
      const holding = (state: string): string[] => roles.filter((_, index) => cells[index]!.state === state)
      return [permission, { always: holding('allow'), conditionally: holding('if') }]
    }))
    tables.set(policy, table)
  }
  return table.get(permission) ?? { always: [], conditionally: [] }
}

type Loader = (...input: readonly unknown[]) => unknown

function loaderOf ({ when, permission }: Operation['rule']): Loader | null {
  if (when === undefined) return null
  if (typeof when !== 'function') {
    throw new RuleInvalid('security.when must be a function that loads what the conditions ask about')
  }
  if (permission === undefined) {
    throw new RuleInvalid('security.when needs security.permission, whose conditions it loads for')
  }
  return when as Loader
}

async function load (when: Loader, input: readonly unknown[]): Promise<Attributes['resource']> {
  let loaded: unknown
  try {
    loaded = await when(...input)
  } catch (error) {
    const { statusCode } = (error ?? {}) as { readonly statusCode?: unknown }
    // A caller who may not see a resource must not learn that it exists: the response is the same as for
    // one that does not exist.
    if (statusCode === 404 || statusCode === 410) return undefined
    if (error instanceof MartyError && error.statusCode >= 500) throw error
    throw new AttributesFailed({ cause: error })
  }
  if (loaded === null || loaded === undefined) return undefined
  if (typeof loaded === 'object' && !Array.isArray(loaded)) return loaded as Attributes['resource']
  throw new AttributesFailed(
    `security.when must load an object or null; it loaded ${Array.isArray(loaded) ? 'a list' : `a ${typeof loaded}`}`
  )
}

/**
 * Checks a permission name and returns the check for it. Throws `MARTY_CORE_RULE_INVALID` if the policy
 * does not define the permission; `where` names the option in the message.
 */
export function permissionPredicate (access: Access, permission: unknown, where: string): AccessPredicate {
  const { policy } = access.rbac
  if (typeof permission !== 'string') throw new RuleInvalid(`${where} must be a text such as "resource:action"`)
  if (parsePermission(permission) === null) {
    throw new RuleInvalid(`${where} "${permission}" must be "resource:action" or "resource:scope:action"`)
  }
  if (permission.split(':').includes('*')) {
    throw new RuleInvalid(`${where} "${permission}" must name one permission, without *`)
  }
  const id = policy.permissionId(permission)
  if (id === undefined) {
    throw new RuleInvalid(
      `${where} names "${permission}", which ${policy.file} does not ` +
        `define${didYouMean(permission, policy.permissions)}`
    )
  }
  const { decider, requirements, rbac: { service } } = access
  requirements.permissions.add(permission)
  return ({ principal }, policy) => decider.decide(policy, id, permission, principal.roles, { principal, service })
}

/** The same for a list of roles. The caller needs one of them. */
export function rolesPredicate ({ rbac, requirements }: Access, roles: unknown, where: string): AccessPredicate {
  let asked = rbac.policy
  const known = asked.roles.map(({ name }) => name)
  if (!Array.isArray(roles) || roles.length === 0) throw new RuleInvalid(`${where} must be a list of at least one role`)
  for (const role of roles as readonly unknown[]) {
    if (typeof role === 'string' && known.includes(role)) {
      requirements.roles.add(role)
      continue
    }
    throw new RuleInvalid(
      `${where} names ${JSON.stringify(role)}, which ${asked.file} does not ` +
        `define${typeof role === 'string' ? didYouMean(role, known) : ''}`
    )
  }
  let sufficient = asked.rolesThatHold(roles)
  return ({ principal }, policy) => {
    if (policy !== asked) {
      asked = policy
      sufficient = policy.rolesThatHold(roles)
    }
    // A caller who holds two roles of a `separation` passes for neither.
    return !policy.roleSet(principal.roles).separated && principal.roles.some(role => sufficient.has(role))
  }
}

import type { Principal } from '@marty/core'
import type { Attributes, Question } from './conditions/evaluate.js'
import { didYouMean } from './did-you-mean.js'
import { PermissionUnknown } from './errors.js'
import { spokenRules, type Explanation } from './engine/explain.js'
import { filterOf, NONE, type Filter, type Weights } from './analysis/filter.js'
import { parsePermission, type Effect } from './model/permission.js'
import { partsOf, type Policy, type RoleSummary } from './engine/policy.js'
import type { PolicyDemands } from './reload/requirements.js'
import type { PolicySource, PolicyStatus } from './reload/source.js'
import type { Permission } from './register.js'
import type { Decider, Shadow } from './engine/shadow.js'

/** Anything that holds roles; a principal does. Conditions may ask about its other members too. */
export type RoleHolder = Pick<Principal, 'roles'> & Partial<Principal>

/** The policy in use, asked about callers: `fastify.rbac`. */
export interface Rbac {
  /** The environment the service runs in, by its name in the policy. */
  readonly environment: string
  /** Which service of the policy this is. */
  readonly service: string | undefined
  /** The generation in use. Another one takes its place when the policy is reloaded: read it once for what belongs together. */
  readonly policy: Policy
  /** Whether that generation is the newest one, and why not. For health reports: what it tells of the policy is not for callers. */
  readonly status: PolicyStatus
  /** Looks now for a newer policy. Never throws: when there is one that cannot be used, the answer says why, and the last good one stays in use. */
  reload (): Promise<PolicyStatus>
  /**
   * Whether a caller is allowed. `resource` is what conditions may ask about; what it does not tell never widens.
   * Throws `MARTY_RBAC_PERMISSION_UNKNOWN` for a name the policy does not define; one that it no longer defines is denied.
   */
  can (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']): boolean
  /** Everything a caller is allowed, whatever the resource. */
  permissionsOf (principal: RoleHolder): readonly string[]
  /** Every role of the policy. */
  roles (): readonly RoleSummary[]
  /** Why a caller is allowed or not. Tells of the policy: not for the caller, but for those who may know it. */
  explain (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']): Explanation
  /**
   * The permissions with this action that a caller is allowed, in the file's order: what of many kinds it may `read`.
   * `resource` as for `can`. Throws `MARTY_RBAC_PERMISSION_UNKNOWN` for an action the policy does not define.
   */
  permitted (principal: RoleHolder, action: string, resource?: Attributes['resource']): readonly Permission[]
  /**
   * Which resources a caller is allowed a permission on: all, none, or those for which an expression over their
   * attributes holds. Good for now: conditions on the time are already decided. Throws as `can` does.
   */
  filter (principal: RoleHolder, permission: Permission): Filter
  /** How often Casbin was asked too, and whether it disagreed. */
  readonly shadow: Shadow
}

/** What rules and hooks name: a policy without it is not taken into use. */
export type AccessDemands = Pick<PolicyDemands, 'permissions' | 'roles'>

/** What the checks of this package ask; the generation is theirs to hold on to. */
export interface Access {
  readonly rbac: Rbac
  readonly decider: Decider
  readonly demands: AccessDemands
  decide (policy: Policy, principal: RoleHolder, permission: string, resource?: Attributes['resource']): boolean
  filter (policy: Policy, principal: RoleHolder, permission: string): Filter
}

export function createAccess (
  source: PolicySource,
  environment: string,
  service: string | undefined,
  decider: Decider,
  demands: AccessDemands
): Access {
  const decide: Access['decide'] = (policy, principal, permission, resource) => {
    const id = policy.permissionId(permission)
    const attributes = { principal, service, resource }
    // What is no longer defined is denied, what never was is thrown.
    return id === undefined
      ? policy.decide(principal.roles, permission, environment, attributes)
      : decider.decide(policy, id, permission, principal.roles, attributes)
  }

  const filter: Access['filter'] = (policy, principal, permission) => {
    const id = policy.permissionId(permission)
    if (id === undefined) return NONE
    const { outline } = partsOf(policy)
    const question: Question = {
      attributes: { principal, service, time: Date.now() },
      roles: principal.roles,
      environment,
      clock: Date.now
    }
    // An index that Casbin disagreed with decides nothing any more.
    const weights =
      decider.shadow.diverged > 0 ? weightsOfRules(policy, permission, question) : weightsOfIndex(policy, id, question)
    return filterOf(weights, outline, question)
  }

  const rbac: Rbac = Object.freeze({
    environment,
    service,
    get policy () {
      return source.current
    },
    get status () {
      return source.status
    },
    reload: async () => await source.reload(),
    get shadow () {
      return decider.shadow
    },
    can: (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']) =>
      decide(source.current, principal, permission, resource),
    permissionsOf (principal: RoleHolder) {
      const policy = source.current
      return policy.permissions.filter(permission => decide(policy, principal, permission))
    },
    roles: () => source.current.roles,
    explain: (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']) =>
      source.current.explain(principal.roles, permission, environment, { principal, service, resource }),
    permitted (principal: RoleHolder, action: string, resource?: Attributes['resource']) {
      const policy = source.current
      const named = policy.permissions.filter(permission => parsePermission(permission)!.action === action)
      if (named.length === 0) {
        throw new PermissionUnknown(
          `The policy defines no action "${action}"${didYouMean(
            action,
            policy.permissions.map(permission => parsePermission(permission)!.action)
          )}`
        )
      }
      return named.filter(permission =>
        decide(policy, principal, permission, resource)
      ) as readonly string[] as readonly Permission[]
    },
    filter (principal: RoleHolder, permission: Permission) {
      const policy = source.current
      if (policy.permissionId(permission) === undefined) decide(policy, principal, permission)
      return filter(policy, principal, permission)
    }
  })
  return Object.freeze({ rbac, decider, demands, decide, filter })
}

function weightsOfIndex (policy: Policy, permissionId: number, { roles, attributes, environment }: Question): Weights {
  return partsOf(policy).index.conditionalsOf(
    policy.roleSet(roles, attributes).rows,
    permissionId,
    policy.environmentId(environment)!
  )
}

function weightsOfRules (policy: Policy, permission: string, question: Question): Weights {
  const rules = spokenRules(partsOf(policy).definition, permission, question).map(
    ({ rule: { effect, condition } }) => ({ effect, condition })
  )
  const always = (wanted: Effect): boolean =>
    rules.some(({ effect, condition }) => effect === wanted && condition === null)
  return {
    allowed: always('allow'),
    denied: always('deny'),
    rules: rules.flatMap(({ effect, condition }) => (condition === null ? [] : [{ effect, condition }]))
  }
}

import { didYouMean, type Principal } from '@marty/core'
import type { Attributes, Question } from './conditions/evaluate.js'
import { PermissionUnknown } from './errors.js'
import { matchingRules, type Explanation } from './engine/explain.js'
import { filterOf, NONE, type Filter, type ApplicableRules } from './analysis/filter.js'
import { parsePermission, type Effect } from './model/permission.js'
import { partsOf, type Policy, type RoleSummary } from './engine/policy.js'
import type { ServiceRequirements } from './reload/requirements.js'
import type { PolicySource, PolicyStatus } from './reload/source.js'
import type { Permission } from './register.js'
import type { Decider, Shadow } from './engine/shadow.js'

/** Anything that holds roles, such as a principal. Conditions may read its other members too. */
export type RoleHolder = Pick<Principal, 'roles'> & Partial<Principal>

/** The policy in use, and what it decides about callers: `fastify.rbac`. */
export interface Rbac {
  /** The environment the service runs in, by its name in the policy (not an alias). */
  readonly environment: string
  /** The name of this service in the policy. */
  readonly service: string | undefined
  /**
   * The generation of the policy in use. A reload replaces it,
   * so read it once for decisions that belong together.
   */
  readonly policy: Policy
  /**
   * Whether that generation is the newest one, and if not, why. Use it in health reports; it reveals parts
   * of the policy, so do not send it to callers.
   */
  readonly status: PolicyStatus
  /**
   * Looks for a newer policy now. Never throws: if there is one that cannot be used, the status says why,
   * and the last good policy stays in use.
   */
  reload (): Promise<PolicyStatus>
  /**
   * Whether a caller is allowed a permission. `resource` holds the attributes that conditions may read; a
   * missing attribute never widens access. Throws `MARTY_RBAC_PERMISSION_UNKNOWN` for a name that the
   * policy never defined; a name that it no longer defines is denied.
   */
  can (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']): boolean
  /** Every permission that a caller is allowed, whatever the resource is. */
  permissionsOf (principal: RoleHolder): readonly string[]
  /** Every role of the policy. */
  roles (): readonly RoleSummary[]
  /**
   * Why a caller is allowed or denied. The answer reveals parts of the policy: show it only to people who
   * may see the policy, not to the caller.
   */
  explain (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']): Explanation
  /**
   * The permissions with this action that a caller is allowed, in the order of the policy file: for
   * example, everything the caller may `read`. `resource` works as in `can`. Throws
   * `MARTY_RBAC_PERMISSION_UNKNOWN` for an action that the policy does not define.
   */
  permitted (principal: RoleHolder, action: string, resource?: Attributes['resource']): readonly Permission[]
  /**
   * For which resources a caller is allowed a permission: all, none, or those for which an expression over
   * their attributes is true. Do not keep the answer: conditions on the time are evaluated when it is
   * made. Throws as `can` does.
   */
  filter (principal: RoleHolder, permission: Permission): Filter
  /** How many decisions were also checked with Casbin, and whether it disagreed. */
  readonly shadow: Shadow
}

/**
 * The permissions and roles that security rules and hooks
 * name. A policy that does not define all of them is not used.
 */
export type AccessRequirements = Pick<ServiceRequirements, 'permissions' | 'roles'>

/** What the checks of this package use. They pass the generation to use, so that one request sticks to one. */
export interface Access {
  readonly rbac: Rbac
  readonly decider: Decider
  readonly requirements: AccessRequirements
  decide (policy: Policy, principal: RoleHolder, permission: string, resource?: Attributes['resource']): boolean
  filter (policy: Policy, principal: RoleHolder, permission: string): Filter
}

export function createAccess (
  source: PolicySource,
  environment: string,
  service: string | undefined,
  decider: Decider,
  requirements: AccessRequirements
): Access {
  const decide: Access['decide'] = (policy, principal, permission, resource) => {
    const id = policy.permissionId(permission)
    const attributes = { principal, service, resource }
    // A permission that is no longer defined is denied; one that was never defined throws.
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
    // After a disagreement with Casbin, the index is not used for decisions any more.
    const rules = decider.shadow.diverged > 0
      ? applicableByDefinition(policy, permission, question)
      : applicableByIndex(policy, id, question)
    return filterOf(rules, outline, question)
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
      const actionOf = (permission: string): string => parsePermission(permission)!.action
      const candidates = policy.permissions.filter(permission => actionOf(permission) === action) as Permission[]
      if (candidates.length === 0) {
        const actions = policy.permissions.map(actionOf)
        throw new PermissionUnknown(`The policy defines no action "${action}"${didYouMean(action, actions)}`)
      }
      return candidates.filter(permission => decide(policy, principal, permission, resource))
    },
    filter (principal: RoleHolder, permission: Permission) {
      const policy = source.current
      if (policy.permissionId(permission) === undefined) decide(policy, principal, permission)
      return filter(policy, principal, permission)
    }
  })
  return Object.freeze({ rbac, decider, requirements, decide, filter })
}

/** The rules on which a decision depends, read from the index. */
function applicableByIndex (policy: Policy, permissionId: number, question: Question): ApplicableRules {
  const { roles, attributes, environment } = question
  const { rows } = policy.roleSet(roles, attributes)
  return partsOf(policy).index.conditionalsOf(rows, permissionId, policy.environmentId(environment)!)
}

/** The same, read from the rules themselves. */
function applicableByDefinition (policy: Policy, permission: string, question: Question): ApplicableRules {
  const rules = matchingRules(partsOf(policy).definition, permission, question).map(({ rule }) => rule)
  const isUnconditional = (effect: Effect): boolean =>
    rules.some(rule => rule.effect === effect && rule.condition === null)
  return {
    allowed: isUnconditional('allow'),
    denied: isUnconditional('deny'),
    rules: rules.flatMap(({ effect, condition }) => (condition === null ? [] : [{ effect, condition }]))
  }
}

import type { Principal } from '@marty/core'
import type { Attributes } from './condition.js'
import type { Explanation } from './explain.js'
import type { Policy, RoleSummary } from './policy.js'
import type { PolicySource, PolicyStatus } from './policy-source.js'
import type { Permission } from './register.js'

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
}

export function createRbac (source: PolicySource, environment: string, service: string | undefined): Rbac {
  return Object.freeze({
    environment,
    service,
    get policy () { return source.current },
    get status () { return source.status },
    reload: async () => await source.reload(),
    can: (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']) =>
      source.current.decide(principal.roles, permission, environment, { principal, service, resource }),
    permissionsOf: (principal: RoleHolder) => source.current.permissionsOf(principal.roles, environment, { principal, service }),
    roles: () => source.current.roles,
    explain: (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']) =>
      source.current.explain(principal.roles, permission, environment, { principal, service, resource })
  })
}

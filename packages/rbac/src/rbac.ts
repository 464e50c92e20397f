import type { Principal } from '@marty/core'
import type { Explanation } from './explain.js'
import type { Policy, RoleSummary } from './policy.js'
import type { Permission } from './register.js'

/** Anything that holds roles; a principal does. */
export type RoleHolder = Pick<Principal, 'roles'>

/** The policy in use, asked about callers: `fastify.rbac`. */
export interface Rbac {
  /** The environment the service runs in, by its name in the policy. */
  readonly environment: string
  readonly policy: Policy
  /** Whether a caller is allowed. Throws `MARTY_RBAC_PERMISSION_UNKNOWN` for a name the policy does not define. */
  can (principal: RoleHolder, permission: Permission): boolean
  /** Everything a caller is allowed. */
  permissionsOf (principal: RoleHolder): readonly string[]
  /** Every role of the policy. */
  roles (): readonly RoleSummary[]
  /** Why a caller is allowed or not. Tells of the policy: not for the caller, but for those who may know it. */
  explain (principal: RoleHolder, permission: Permission): Explanation
}

export function createRbac (policy: Policy, environment: string): Rbac {
  return Object.freeze({
    environment,
    policy,
    can: ({ roles }: RoleHolder, permission: Permission) => policy.decide(roles, permission, environment),
    permissionsOf: ({ roles }: RoleHolder) => policy.permissionsOf(roles, environment),
    roles: () => policy.roles,
    explain: ({ roles }: RoleHolder, permission: Permission) => policy.explain(roles, permission, environment)
  })
}

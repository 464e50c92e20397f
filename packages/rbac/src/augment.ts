import type { Attributes } from './condition.js'
import type { Rbac, RoleHolder } from './rbac.js'
import type { Permission, Role } from './register.js'

declare module '@marty/core' {
  interface SecurityRule {
    /** What the caller must be allowed to do: `resource:action` or `resource:scope:action` of the policy. */
    readonly permission?: Permission
    /** The caller must hold one of these roles, itself or through inheritance. */
    readonly roles?: readonly Role[]
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    rbac: Rbac
    /** Whether the policy allows this caller this permission, here and now. `resource` is what its conditions may ask about. */
    can (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']): boolean
  }
}

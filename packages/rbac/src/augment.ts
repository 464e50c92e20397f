import type { FastifyRequest } from 'fastify'
import type { LoadedResource } from './access-check.js'
import type { AccessHook } from './access-hooks.js'
import type { Attributes } from './conditions/evaluate.js'
import type { Rbac, RoleHolder } from './rbac.js'
import type { Permission, Role } from './register.js'

declare module '@marty/core' {
  interface SecurityRule {
    /**
     * The permission the caller needs: `resource:action` or
     * `resource:scope:action`, as defined in the policy.
     */
    readonly permission?: Permission
    /** The caller must hold one of these roles, directly or through inheritance. */
    readonly roles?: readonly Role[]
    /**
     * Loads the attributes that the conditions of `permission` read. It runs only when the decision
     * depends on them: a caller who is allowed or refused for every resource is decided without it. For
     * HTTP it runs after the body is parsed; for RPC it gets the validated params and the context. Return
     * `null` when the resource does not exist: the policy then decides without any attributes. If it
     * throws, the response is a 500, with two exceptions: status 404 or 410 counts as `null`, and coded
     * errors with a 5xx status are passed on unchanged.
     */
    when? (request: FastifyRequest): LoadedResource | Promise<LoadedResource>
  }
}

declare module '@marty/core' {
  interface OperationFacts {
    /** The roles that the policy in use grants the permission of the operation: always, or on a condition. */
    readonly grantedTo?: { readonly always: readonly string[], readonly conditionally: readonly string[] }
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    rbac: Rbac
    /**
     * Creates a hook that requires a permission, for a route whose rule only authenticates. Throws for a
     * name that the policy does not define.
     */
    requirePermission (permission: Permission): AccessHook
    /** Creates a hook that requires any one of these roles, held directly or through inheritance. */
    requireRoles (...roles: readonly Role[]): AccessHook
    /**
     * Whether the policy allows this caller this permission, here and now. `resource` holds the attributes
     * that conditions may read.
     */
    can (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']): boolean
  }
  interface FastifyRequest {
    /**
     * Whether the policy allows the caller of this request a permission. `resource` holds the attributes
     * that conditions may read.
     */
    can (permission: Permission, resource?: Attributes['resource']): boolean
  }
}

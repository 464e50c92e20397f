import type { FastifyRequest } from 'fastify'
import type { LoadedResource } from './access-check.js'
import type { AccessHook } from './access-hooks.js'
import type { Attributes } from './conditions/evaluate.js'
import type { Rbac, RoleHolder } from './rbac.js'
import type { Permission, Role } from './register.js'

declare module '@marty/core' {
  interface SecurityRule {
    /** What the caller must be allowed to do: `resource:action` or `resource:scope:action` of the policy. */
    readonly permission?: Permission
    /** The caller must hold one of these roles, itself or through inheritance. */
    readonly roles?: readonly Role[]
    /**
     * Loads what the conditions of `permission` ask about. It runs only when the answer hangs on it: a caller who is
     * allowed or refused whatever the resource is never gets here. HTTP: after the body is parsed. RPC: with the
     * validated params and the context. `null` when there is no such resource, and then the policy is asked with
     * nothing known. What it throws is a 500, but for errors of status 404 or 410 (as `null`) and coded 5xx (as they are).
     */
    when? (request: FastifyRequest): LoadedResource | Promise<LoadedResource>
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    rbac: Rbac
    /** A hook that asks for a permission, on a route whose rule only authenticates. Throws for a name the policy does not define. */
    requirePermission (permission: Permission): AccessHook
    /** The same for roles: any of them, held directly or by inheritance. */
    requireRoles (...roles: readonly Role[]): AccessHook
    /** Whether the policy allows this caller this permission, here and now. `resource` is what its conditions may ask about. */
    can (principal: RoleHolder, permission: Permission, resource?: Attributes['resource']): boolean
  }
  interface FastifyRequest {
    /** Whether the policy allows the caller of this request a permission. `resource` is what its conditions may ask about. */
    can (permission: Permission, resource?: Attributes['resource']): boolean
  }
}

import { Unauthenticated } from '@marty/core'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { permissionPredicate, rolesPredicate, type AccessPredicate } from './access-check.js'
import { AccessDenied } from './errors.js'
import type { Access } from './rbac.js'
import type { Permission, Role } from './register.js'

/**
 * For `onRequest`, `preHandler` and every hook in between. Responds 401 to an unauthenticated caller and
 * 403 to one who is not allowed.
 */
export type AccessHook = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void

/**
 * Creates a hook for one permission. Throws `MARTY_CORE_RULE_INVALID`
 * for a name that the policy does not define.
 */
export function permissionHook (access: Access, permission: Permission): AccessHook {
  return hook(access, permissionPredicate(access, permission, 'requirePermission'), { permission })
}

/**
 * Creates a hook for any one of these roles. Throws `MARTY_CORE_RULE_INVALID` for a name that the policy
 * does not define.
 */
export function rolesHook (access: Access, roles: readonly Role[]): AccessHook {
  return hook(access, rolesPredicate(access, roles, 'requireRoles'), {})
}

function hook ({ rbac }: Access, isAllowed: AccessPredicate, data: Readonly<Record<string, unknown>>): AccessHook {
  return (request, _reply, done) => {
    const { principal } = request
    if (principal.kind === 'anonymous') {
      done(new Unauthenticated())
    } else if (isAllowed({ principal }, rbac.policy)) {
      done()
    } else {
      const denied = new AccessDenied({ data })
      const { url = '404' } = request.routeOptions
      void request.server.guard.emit({
        type: 'authorization',
        action: `${request.method} ${url}`,
        outcome: 'denied',
        reason: denied.code,
        principal,
        address: request.ip ?? null,
        requestId: request.id
      })
      done(denied)
    }
  }
}

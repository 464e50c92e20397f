import type { Guard } from '@marty/core'
import { Type } from 'typebox'
import type { Connection } from './connection.js'
import type { ResolvedOptions } from './options.js'
import type { MethodRegistry } from './registry.js'

/**
 * Declares the method that authenticates a connection. Its rule requires authentication, so the guard itself verifies
 * the token: invalid tokens are limited and reported to the sinks in the same way as invalid request headers.
 */
export function declareAuthenticate (guard: Guard, registry: MethodRegistry, options: ResolvedOptions): void {
  const name = options.authenticateMethod
  registry.declare({
    name,
    summary: 'Authenticates the caller for the rest of the connection',
    security: { authenticate: true },
    params: Type.Object({ auth_token: Type.String({ minLength: 1 }) }),
    handler: async (_params, { id, address, connection, principal }) => {
      if (connection !== null) (connection as Connection).authenticate(principal)
      void guard.emit({
        type: 'authentication',
        action: name,
        outcome: 'success',
        reason: null,
        principal,
        address,
        requestId: id
      })
      return await options.describePrincipal(principal)
    }
  }, ({ auth_token: token }) => token)
}

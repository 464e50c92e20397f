import { ANONYMOUS, createCall, MartyError, type Guard, type GuardedOperation, type Principal } from '@marty/core'
import { Type } from 'typebox'
import type { Connection } from './connection.js'
import type { ResolvedOptions } from './options.js'
import type { MethodRegistry } from './registry.js'

/** Judges credentials that come with the transport itself: in `authenticate`, or with the upgrade request. */
export interface ConnectionAuthentication {
  /** Waits for a principal (null: no credential was given); a wrong credential costs the caller, is told to the sinks, and throws. */
  verify<P extends Principal | null> (identified: Promise<P>, caller: Caller): Promise<P>
}

interface Caller {
  readonly id: string
  readonly address: string | null
}

/** Declares the method that authenticates a connection. */
export function declareAuthenticate (guard: Guard, registry: MethodRegistry, options: ResolvedOptions): ConnectionAuthentication {
  const name = options.authenticateMethod
  registry.declare({
    name,
    summary: 'Says who is calling, for the rest of the connection',
    security: { public: true },
    params: Type.Object({ auth_token: Type.String({ minLength: 1 }) }),
    handler: async ({ auth_token: token }, { id, address, connection }) => {
      const principal = await verify(guard.authenticate(token, { address, requestId: id }), { id, address })
      if (connection !== null) (connection as Connection).authenticate(principal)
      return await options.describePrincipal(principal)
    }
  })
  const operation: GuardedOperation = registry.find(name)!.operation

  async function verify<P extends Principal | null> (identified: Promise<P>, { id, address }: Caller): Promise<P> {
    let principal: P
    try {
      principal = await identified
    } catch (error) {
      if (error instanceof MartyError && error.statusCode === 401) return await operation.fail(createCall(operation, id, address, null, ANONYMOUS), error)
      throw error
    }
    if (principal !== null) void guard.emit({ type: 'authentication', action: name, outcome: 'success', reason: null, principal, address, requestId: id })
    return principal
  }

  return { verify }
}

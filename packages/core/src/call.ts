import type { IncomingMessage } from 'node:http'
import type { GuardedOperation } from './operation.js'
import type { Principal } from './principal.js'

/** One call of an operation, on either transport, as the checks see it. */
export interface Call {
  readonly operation: GuardedOperation
  /** Correlates logs, audit events and answers. */
  readonly id: string
  /** The peer's address after trusted proxies; null when the transport has none. */
  readonly address: string | null
  /** The HTTP request to look for credentials in; null when the connection is already authenticated. */
  readonly request: IncomingMessage | null
  /** A credential that came without headers, such as the one given to JSON-RPC's `authenticate`; null otherwise. */
  readonly token: string | null
  /** Anonymous until the authenticate stage has passed. */
  principal: Principal
  /** Response headers that checks ask for; transports without headers ignore them. */
  responseHeaders: Record<string, string> | null
}

/** Makes a call with every member in place, so that all calls share one hidden class. */
export function createCall (operation: GuardedOperation, id: string, address: string | null, request: IncomingMessage | null, principal: Principal, token: string | null = null): Call {
  return { operation, id, address, request, token, principal, responseHeaders: null }
}

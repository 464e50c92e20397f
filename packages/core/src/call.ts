import type { IncomingMessage } from 'node:http'
import type { CheckRun, GuardedOperation } from './operation.js'
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
  /**
   * Whether the transport will call {@link GuardedOperation.finish} once the input is read. Only then may a check leave
   * something in `pending`; otherwise it decides at once with what it knows.
   * @default false
   */
  readonly canDefer: boolean
  /** What is left to be decided when the input is known; null when everything is. */
  pending: CheckRun | null
  /** What loaders of the rule are called with, set when the input is read: the Fastify request, or params and context of RPC. */
  input: readonly unknown[]
}

/** Makes a call with every member in place, so that all calls share one hidden class. */
export function createCall (
  operation: GuardedOperation,
  id: string,
  address: string | null,
  request: IncomingMessage | null,
  principal: Principal,
  token: string | null = null,
  canDefer = false
): Call {
  return {
    operation,
    id,
    address,
    request,
    token,
    principal,
    responseHeaders: null,
    canDefer,
    pending: null,
    input: NONE
  }
}

const NONE: readonly unknown[] = Object.freeze([])

import type { IncomingMessage } from 'node:http'
import type { CheckRun, GuardedOperation } from './operation.js'
import type { Principal } from '../principal.js'

/** One call of an operation, over HTTP or JSON-RPC, as the checks see it. */
export interface Call {
  readonly operation: GuardedOperation
  /** Correlates logs, audit events and responses. */
  readonly id: string
  /** The client's address, with trusted proxies taken into account; null when the transport has none. */
  readonly address: string | null
  /** The HTTP request to search for credentials; null when the connection is already authenticated. */
  readonly request: IncomingMessage | null
  /**
   * A credential that was sent outside of headers, such as the argument of JSON-RPC's `authenticate`; otherwise null.
   */
  readonly token: string | null
  /** Anonymous until the authenticate stage has passed. */
  principal: Principal
  /** Response headers set by checks. Transports without headers ignore them. */
  responseHeaders: Record<string, string> | null
  /**
   * Whether the transport will read the input and then call {@link GuardedOperation.decide} once more. Only then may a
   * check put a decision off by setting `pending`; otherwise it must decide immediately with what it knows.
   * @default false
   */
  readonly canDefer: boolean
  /** The decision that a check has put off until the input is known; null when everything is decided. */
  pending: CheckRun | null
  /** The number of checks that have run; `decide` goes on with the next one after a pending decision. */
  resumeAt: number
  /**
   * Arguments for the rule's loaders. The transport sets them when it has read the input: the Fastify request, or the
   * RPC params and context.
   */
  input: readonly unknown[]
}

/** Creates a call with every member set, so that all calls share one hidden class in V8. */
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
    resumeAt: 0,
    input: NONE
  }
}

const NONE: readonly unknown[] = Object.freeze([])

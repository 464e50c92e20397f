import {
  checkOptions, optionsInvalid, ORIGIN, type OptionScope, type OptionTable, type Principal, type SecurityRule
} from '@marty/core'
import { JsonRpcOptionInvalid } from './errors.js'

export interface JsonRpcOptions {
  /**
   * URL path to which WebSocket clients connect.
   * @default '/ws'
   */
  readonly path?: string
  /**
   * URL path that serves the same methods by POST; `false` disables POST.
   * @default false
   */
  readonly httpPath?: string | false
  /**
   * Maximum number of open connections; one more is refused with 503 before the upgrade.
   * @default 100
   */
  readonly maxConnections?: number
  /**
   * Maximum number of open connections from one IPv4 address or IPv6 /64 network; one more is refused with 429 before
   * the upgrade. Raise it when clients share an address, such as that of a proxy not covered by Fastify's `trustProxy`.
   * @default 10
   */
  readonly maxConnectionsPerAddress?: number
  /**
   * Origins whose pages may call, in addition to the service's own. Compared exactly: `https://console.example.com`.
   * @default []
   */
  readonly allowedOrigins?: readonly string[]
  /**
   * Whether pages served from the same host and port may call.
   * @default true
   */
  readonly sameOrigin?: boolean
  /**
   * Longest message of an authenticated connection, in bytes; a longer one closes the connection with 1009.
   * @default 65536
   */
  readonly maxPayloadBytes?: number
  /**
   * Longest message of an unauthenticated connection, in bytes. It must be long enough for a token.
   * @default 4096
   */
  readonly maxAnonymousPayloadBytes?: number
  /**
   * Maximum number of calls in one batch.
   * @default 20
   */
  readonly maxBatch?: number
  /**
   * Maximum nesting depth of objects and arrays in one message.
   * @default 16
   */
  readonly maxDepth?: number
  /**
   * Maximum number of messages of one connection that are processed concurrently; above it, the socket is not read. A
   * batch counts as one message: its calls are executed in order, but the checks of up to sixteen calls run together.
   * @default 16
   */
  readonly maxConcurrent?: number
  /**
   * Maximum number of bytes buffered for a slow client; above it, the connection is closed with 1013.
   * @default 1048576
   */
  readonly maxBufferedBytes?: number
  /**
   * A connection is closed with 1008 after this many consecutive calls that a limit refused (429).
   * @default 100
   */
  readonly maxRefusals?: number
  /**
   * The rule of the two routes that carry messages. It must be public, because each call has its own rule. With
   * `limits: false` in it, an address that has used up its limits can still connect with a valid credential.
   * @default { public: true }
   */
  readonly transportSecurity?: SecurityRule
  /**
   * Time between pings, in milliseconds. A connection with two unanswered pings is terminated.
   * @default 30000
   */
  readonly pingIntervalMs?: number
  /**
   * Time limit for an upgrade, in milliseconds; a request not accepted by then is disconnected.
   * @default 10000
   */
  readonly upgradeTimeoutMs?: number
  /**
   * Time in milliseconds within which a connection must authenticate, or it is closed with 4401; 0 disables the limit.
   * @default 0
   */
  readonly authenticationTimeoutMs?: number
  /**
   * Time in milliseconds that running calls have to finish when the application closes.
   * @default 5000
   */
  readonly shutdownGraceMs?: number
  /**
   * Name of the built-in method that authenticates a connection.
   * @default 'authenticate'
   */
  readonly authenticateMethod?: string
  /**
   * Creates the result of `authenticate`.
   * @default `{ authenticated, role, roles, expires_at }`
   */
  readonly describePrincipal?: (principal: Principal) => object | Promise<object>
}

export type ResolvedOptions = Readonly<Required<JsonRpcOptions>>

const PATH = { kind: 'string', pattern: /^\/[^?#*:\s]*$/, expected: 'a path such as "/ws", without parameters' } as const

// The delay of a timer is a signed 32-bit number of milliseconds; Node changes a larger delay to 1 ms.
const MAX_TIMER_MS = 2 ** 31 - 1

export const OPTIONS: OptionTable<JsonRpcOptions> = {
  path: { ...PATH, default: '/ws', about: 'URL path to which WebSocket clients connect.' },
  httpPath: {
    ...PATH,
    or: [false],
    default: false,
    about: 'URL path that serves the methods by POST; `false` disables POST.'
  },
  maxConnections: {
    kind: 'integer',
    min: 1,
    default: 100,
    about: 'Maximum number of open connections; above it, 503 before the upgrade.'
  },
  maxConnectionsPerAddress: {
    kind: 'integer',
    min: 1,
    default: 10,
    about: 'The same for one IPv4 address or IPv6 /64; above it, 429 before the upgrade.'
  },
  allowedOrigins: {
    kind: 'list',
    items: ORIGIN,
    default: [],
    about: 'Exact origins of other sites whose pages may call; all others get 403.'
  },
  sameOrigin: { kind: 'boolean', default: true, about: 'Whether pages of the same host and port may call.' },
  maxPayloadBytes: {
    kind: 'integer',
    min: 1,
    default: 64 * 1024,
    about: 'Longest message of an authenticated connection.'
  },
  maxAnonymousPayloadBytes: {
    kind: 'integer',
    min: 1,
    default: 4 * 1024,
    about: 'Longest message of an unauthenticated connection.'
  },
  maxBatch: { kind: 'integer', min: 1, default: 20, about: 'Maximum number of calls in a batch.' },
  maxDepth: { kind: 'integer', min: 1, default: 16, about: 'Maximum nesting depth of objects and arrays.' },
  maxConcurrent: {
    kind: 'integer',
    min: 1,
    default: 16,
    about: 'Messages of one connection that are processed concurrently. A batch counts as one and its calls run in ' +
      'order; the checks of up to sixteen calls run together, so that their limits are one request to the store.'
  },
  maxBufferedBytes: {
    kind: 'integer',
    min: 1,
    default: 1024 * 1024,
    about: 'Bytes buffered for a slow client; above it, the connection is closed.'
  },
  maxRefusals: {
    kind: 'integer',
    min: 1,
    default: 100,
    about: 'The connection is closed after this many consecutive calls that a limit refused (429).'
  },
  transportSecurity: {
    kind: 'custom',
    expected: 'a rule with public: true, such as { public: true, limits: false }',
    // Each method says who may call it, and a client that cannot connect cannot authenticate.
    accepts: value => (value as SecurityRule | null)?.public === true,
    default: { public: true },
    about: 'The rule of the routes of `path` and `httpPath`; `public` must be true.'
  },
  pingIntervalMs: {
    kind: 'integer',
    min: 1,
    max: MAX_TIMER_MS,
    default: 30_000,
    about: 'Time between pings; two unanswered pings terminate a connection.'
  },
  upgradeTimeoutMs: {
    kind: 'integer',
    min: 1,
    max: MAX_TIMER_MS,
    default: 10_000,
    about: 'Time limit for an upgrade; a request not accepted by then is disconnected.'
  },
  authenticationTimeoutMs: {
    kind: 'integer',
    min: 0,
    max: MAX_TIMER_MS,
    default: 0,
    about: 'Time limit to authenticate; 0 disables it.'
  },
  shutdownGraceMs: {
    kind: 'integer',
    min: 0,
    max: MAX_TIMER_MS,
    default: 5_000,
    about: 'Time that running calls have to finish when the application closes.'
  },
  authenticateMethod: {
    kind: 'string',
    expected: 'the name of a method',
    default: 'authenticate',
    about: 'Name of the built-in method that authenticates a connection.'
  },
  describePrincipal: {
    kind: 'function',
    default: describePrincipal,
    defaultText: '`{ authenticated, role, roles, expires_at }`',
    about: 'Creates the result of that method.'
  }
}

const SCOPE: OptionScope = { subject: 'jsonRpc', refuse: message => new JsonRpcOptionInvalid(message), isPlugin: true }

/** Checks the options and fills in the defaults. Throws `MARTY_JSON_RPC_OPT_INVALID`, which names every problem. */
export function resolveOptions (given: JsonRpcOptions): ResolvedOptions {
  const options = checkOptions(OPTIONS, given, SCOPE)
  if (options.httpPath === options.path) {
    throw optionsInvalid(SCOPE, [{ field: 'httpPath', problem: 'must differ from "path"' }])
  }
  return Object.freeze({ ...options, transportSecurity: Object.freeze({ ...options.transportSecurity }) })
}

function describePrincipal ({ roles, expiresAt }: Principal): object {
  return {
    authenticated: true,
    role: roles[0] ?? null,
    roles,
    expires_at: expiresAt === null ? null : new Date(expiresAt).toISOString()
  }
}

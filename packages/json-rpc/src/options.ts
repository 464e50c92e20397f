import { closest, type Principal, type SecurityRule } from '@marty/core'
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

const DEFAULTS: ResolvedOptions = {
  path: '/ws',
  httpPath: false,
  maxConnections: 100,
  maxConnectionsPerAddress: 10,
  allowedOrigins: [],
  sameOrigin: true,
  maxPayloadBytes: 64 * 1024,
  maxAnonymousPayloadBytes: 4 * 1024,
  maxBatch: 20,
  maxDepth: 16,
  maxConcurrent: 16,
  maxBufferedBytes: 1024 * 1024,
  maxRefusals: 100,
  transportSecurity: Object.freeze({ public: true }),
  pingIntervalMs: 30_000,
  upgradeTimeoutMs: 10_000,
  authenticationTimeoutMs: 0,
  shutdownGraceMs: 5_000,
  authenticateMethod: 'authenticate',
  describePrincipal: principal => ({
    authenticated: true,
    role: principal.roles[0] ?? null,
    roles: principal.roles,
    expires_at: principal.expiresAt === null ? null : new Date(principal.expiresAt).toISOString()
  })
}

// The delay of a timer is a signed 32-bit number of milliseconds; Node changes a larger delay to 1 ms.
const MAX_TIMER_MS = 2 ** 31 - 1

const SMALLEST: Readonly<Record<string, number>> = {
  maxConnections: 1,
  maxConnectionsPerAddress: 1,
  maxPayloadBytes: 1,
  maxAnonymousPayloadBytes: 1,
  maxBatch: 1,
  maxDepth: 1,
  maxConcurrent: 1,
  maxBufferedBytes: 1,
  maxRefusals: 1,
  pingIntervalMs: 1,
  upgradeTimeoutMs: 1,
  authenticationTimeoutMs: 0,
  shutdownGraceMs: 0
}

/** Fills in the defaults. Throws `MARTY_JSON_RPC_OPT_INVALID`, which names the first invalid option. */
export function resolveOptions (given: JsonRpcOptions): ResolvedOptions {
  for (const name of Object.keys(given)) {
    // Fastify's own register options.
    if (name in DEFAULTS || name === 'prefix' || name === 'logLevel' || name === 'logSerializers') continue
    const near = closest(name, Object.keys(DEFAULTS))
    throw new JsonRpcOptionInvalid(`jsonRpc knows no option "${name}"${near === null ? '' : `; did you mean "${near}"?`}`)
  }
  const options: ResolvedOptions = { ...DEFAULTS, ...definedOf(given) }
  const values = options as unknown as Record<string, unknown>
  for (const [name, least] of Object.entries(SMALLEST)) {
    const value = values[name]
    const most = name.endsWith('Ms') ? MAX_TIMER_MS : Number.MAX_SAFE_INTEGER
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most) {
      throw new JsonRpcOptionInvalid(`${name} must be a whole number from ${least} to ${most}`)
    }
  }
  assertPath('path', options.path)
  if (options.httpPath !== false) assertPath('httpPath', options.httpPath)
  if (options.httpPath === options.path) throw new JsonRpcOptionInvalid('httpPath must differ from path')
  if (typeof options.sameOrigin !== 'boolean') throw new JsonRpcOptionInvalid('sameOrigin must be true or false')
  if (!Array.isArray(options.allowedOrigins)) throw new JsonRpcOptionInvalid('allowedOrigins must be a list of origins')
  for (const origin of options.allowedOrigins) assertOrigin(origin)
  assertPublic(options.transportSecurity)
  if (typeof options.authenticateMethod !== 'string') {
    throw new JsonRpcOptionInvalid('authenticateMethod must be the name of a method')
  }
  if (typeof options.describePrincipal !== 'function') throw new JsonRpcOptionInvalid('describePrincipal must be a function')
  return Object.freeze({
    ...options,
    allowedOrigins: Object.freeze([...options.allowedOrigins]),
    transportSecurity: Object.freeze({ ...options.transportSecurity })
  })
}

function definedOf (given: JsonRpcOptions): JsonRpcOptions {
  return Object.fromEntries(Object.entries(given).filter(([name, value]) => name in DEFAULTS && value !== undefined))
}

function assertPath (name: string, path: unknown): void {
  if (typeof path === 'string' && /^\/[^?#*:\s]*$/.test(path)) return
  throw new JsonRpcOptionInvalid(`${name} must be a plain path such as "/ws", without parameters`)
}

function assertPublic (rule: SecurityRule | null): void {
  // Each method says who may call it, and a client that cannot connect cannot authenticate.
  if (typeof rule === 'object' && rule?.public === true) return
  throw new JsonRpcOptionInvalid('transportSecurity must be a rule with public: true, such as { public: true, limits: false }')
}

function assertOrigin (origin: unknown): void {
  if (typeof origin === 'string' && URL.canParse(origin) && new URL(origin).origin === origin && origin !== 'null') {
    return
  }
  throw new JsonRpcOptionInvalid(
    `allowedOrigins has ${JSON.stringify(origin)}: an origin is a scheme and a host such as ` +
      '"https://console.example.com", without wildcards, path or trailing slash'
  )
}

import { closest, type Principal, type SecurityRule } from '@marty/core'
import { OptionInvalid } from './errors.js'

export interface JsonRpcOptions {
  /**
   * Where WebSocket clients connect.
   * @default '/ws'
   */
  readonly path?: string
  /**
   * Where the same methods are served by POST; `false` for nowhere.
   * @default false
   */
  readonly httpPath?: string | false
  /**
   * Connections at the same time; one more is refused with 503 before the upgrade.
   * @default 100
   */
  readonly maxConnections?: number
  /**
   * Connections at the same time from one IPv4 address or IPv6 /64 network; one more is refused with 429 before the
   * upgrade. Raise it when clients share an address, such as that of a proxy that Fastify's `trustProxy` does not cover.
   * @default 10
   */
  readonly maxConnectionsPerAddress?: number
  /**
   * Origins whose pages may call, besides the service's own: `https://console.example.com`, compared exactly.
   * @default []
   */
  readonly allowedOrigins?: readonly string[]
  /**
   * Whether pages served under the same host and port may call.
   * @default true
   */
  readonly sameOrigin?: boolean
  /**
   * Longest message of an authenticated connection, in bytes; a longer one closes it with 1009.
   * @default 65536
   */
  readonly maxPayloadBytes?: number
  /**
   * Longest message of a connection that is not authenticated, in bytes. It must hold a token.
   * @default 4096
   */
  readonly maxAnonymousPayloadBytes?: number
  /**
   * Calls in one batch.
   * @default 20
   */
  readonly maxBatch?: number
  /**
   * Objects and arrays inside each other in one message.
   * @default 16
   */
  readonly maxDepth?: number
  /**
   * Messages of one connection worked on at the same time; beyond, its socket is not read. A batch counts as one: its
   * calls are carried out in order, while their checks run for up to sixteen of them together.
   * @default 16
   */
  readonly maxConcurrent?: number
  /**
   * Bytes waiting for a slow reader; beyond, its connection is closed with 1013.
   * @default 1048576
   */
  readonly maxBufferedBytes?: number
  /**
   * Calls refused by a limit (429) in a row; after so many a connection is closed with 1008.
   * @default 100
   */
  readonly maxRefusals?: number
  /**
   * The rule of the two routes that carry messages. It is public, as each call has its own rule; `limits: false` in it
   * lets an address that has used up its limits connect with a valid credential.
   * @default { public: true }
   */
  readonly transportSecurity?: SecurityRule
  /**
   * Time between pings in milliseconds. A connection that leaves two unanswered is terminated.
   * @default 30000
   */
  readonly pingIntervalMs?: number
  /**
   * Time in milliseconds from an upgrade request until it is accepted or hung up on.
   * @default 10000
   */
  readonly upgradeTimeoutMs?: number
  /**
   * Time in milliseconds within which a connection must authenticate or be closed with 4401; 0 for no such limit.
   * @default 0
   */
  readonly authenticationTimeoutMs?: number
  /**
   * Time in milliseconds that running calls get to finish when the application closes.
   * @default 5000
   */
  readonly shutdownGraceMs?: number
  /**
   * Name of the built-in method that authenticates a connection.
   * @default 'authenticate'
   */
  readonly authenticateMethod?: string
  /**
   * What `authenticate` answers.
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

// Timers take a 32-bit signed number of milliseconds; Node turns more into 1 ms.
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

/** Fills in the defaults; throws `MARTY_JSON_RPC_OPT_INVALID` naming the first option that is wrong. */
export function resolveOptions (given: JsonRpcOptions): ResolvedOptions {
  for (const name of Object.keys(given)) {
    // Fastify's own option of every plugin.
    if (name in DEFAULTS || name === 'prefix' || name === 'logLevel' || name === 'logSerializers') continue
    const near = closest(name, Object.keys(DEFAULTS))
    throw new OptionInvalid(`jsonRpc knows no option "${name}"${near === null ? '' : `; did you mean "${near}"?`}`)
  }
  const options: ResolvedOptions = { ...DEFAULTS, ...definedOf(given) }
  const values = options as unknown as Record<string, unknown>
  for (const [name, least] of Object.entries(SMALLEST)) {
    const value = values[name]
    const most = name.endsWith('Ms') ? MAX_TIMER_MS : Number.MAX_SAFE_INTEGER
    if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most) {
      throw new OptionInvalid(`${name} must be a whole number from ${least} to ${most}`)
    }
  }
  assertPath('path', options.path)
  if (options.httpPath !== false) assertPath('httpPath', options.httpPath)
  if (options.httpPath === options.path) throw new OptionInvalid('httpPath must differ from path')
  if (typeof options.sameOrigin !== 'boolean') throw new OptionInvalid('sameOrigin must be true or false')
  if (!Array.isArray(options.allowedOrigins)) throw new OptionInvalid('allowedOrigins must be a list of origins')
  for (const origin of options.allowedOrigins) assertOrigin(origin)
  assertPublic(options.transportSecurity)
  if (typeof options.authenticateMethod !== 'string') {
    throw new OptionInvalid('authenticateMethod must be the name of a method')
  }
  if (typeof options.describePrincipal !== 'function') throw new OptionInvalid('describePrincipal must be a function')
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
  throw new OptionInvalid(`${name} must be a plain path such as "/ws", without parameters`)
}

function assertPublic (rule: SecurityRule | null): void {
  // Who may call is said by each method; whoever may not connect could not authenticate either.
  if (typeof rule === 'object' && rule?.public === true) return
  throw new OptionInvalid('transportSecurity must be a rule with public: true, such as { public: true, limits: false }')
}

function assertOrigin (origin: unknown): void {
  if (typeof origin === 'string' && URL.canParse(origin) && new URL(origin).origin === origin && origin !== 'null') {
    return
  }
  throw new OptionInvalid(
    `allowedOrigins has ${JSON.stringify(origin)}: an origin is a scheme and a host such as ` +
      '"https://console.example.com", without wildcards, path or trailing slash'
  )
}

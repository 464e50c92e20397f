import { createSecureContext, type ConnectionOptions } from 'node:tls'
import { RedisOptionInvalid } from './errors.js'

/** `true` verifies certificates against Node's default CA certificates; an object is passed to `tls.connect`. */
export type RedisTls = true | ConnectionOptions

export interface RedisNode {
  readonly host: string
  readonly port: number
}

export interface RedisCommonOptions {
  /** ACL user. @default the `default` user of Redis */
  readonly username?: string
  readonly password?: string
  /** @default plain TCP, or TLS when the URL begins with `rediss:` */
  readonly tls?: RedisTls
  /** Shown by `CLIENT LIST`. */
  readonly connectionName?: string
  /** Deadline of a command: without an answer, it fails after this time. Milliseconds. @default 50 */
  readonly commandTimeoutMs?: number
  /** Deadline of a connection attempt. Milliseconds. @default 2000 */
  readonly connectTimeoutMs?: number
  /** Longest pause between two reconnection attempts, which continue until `close()`. Milliseconds. @default 500 */
  readonly reconnectMaxDelayMs?: number
}

/** `redis://user:password@host:port/db`, or `rediss:` for TLS. */
export interface RedisUrlOptions extends Omit<RedisCommonOptions, 'username' | 'password'> {
  readonly url: string
}

export interface RedisSingleOptions extends RedisCommonOptions {
  /** @default '127.0.0.1' */
  readonly host?: string
  /** @default 6379 */
  readonly port?: number
  /** @default 0 */
  readonly db?: number
}

export interface RedisSentinelOptions extends RedisCommonOptions {
  readonly sentinels: readonly RedisNode[]
  /** Name of the master group, as configured in the sentinels. */
  readonly name: string
  readonly sentinelUsername?: string
  readonly sentinelPassword?: string
  /** @default 0 */
  readonly db?: number
}

export interface RedisClusterOptions extends RedisCommonOptions {
  /** Seed nodes, from which the client learns the other nodes. */
  readonly cluster: readonly RedisNode[]
}

export type RedisOptions = RedisUrlOptions | RedisSingleOptions | RedisSentinelOptions | RedisClusterOptions

export interface ResolvedRedisOptions {
  readonly mode: 'single' | 'sentinel' | 'cluster'
  readonly nodes: readonly RedisNode[]
  readonly name: string | undefined
  readonly username: string | undefined
  readonly password: string | undefined
  readonly sentinelUsername: string | undefined
  readonly sentinelPassword: string | undefined
  readonly db: number
  readonly tls: ConnectionOptions | undefined
  readonly connectionName: string | undefined
  readonly commandTimeoutMs: number
  readonly connectTimeoutMs: number
  readonly reconnectMaxDelayMs: number
}

const COMMON = ['tls', 'connectionName', 'commandTimeoutMs', 'connectTimeoutMs', 'reconnectMaxDelayMs']
const LOGIN = ['username', 'password']
const FIELDS = {
  url: ['url', ...COMMON],
  single: ['host', 'port', 'db', ...LOGIN, ...COMMON],
  sentinel: ['sentinels', 'name', 'db', 'sentinelUsername', 'sentinelPassword', ...LOGIN, ...COMMON],
  cluster: ['cluster', ...LOGIN, ...COMMON]
} as const

/** Checks every option and fills in the defaults. Throws `MARTY_REDIS_OPT_INVALID`, which names the option. */
export function resolveOptions (options: RedisOptions): ResolvedRedisOptions {
  if (typeof options !== 'object' || options === null) throw new RedisOptionInvalid('options', 'must be an object')
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
  const form = formOf(given)
  for (const field of Object.keys(given)) {
    if (!(FIELDS[form] as readonly string[]).includes(field)) {
      throw new RedisOptionInvalid(
        field,
        `is not known together with "${{ url: 'url', single: 'host', sentinel: 'sentinels', cluster: 'cluster' }[form]}"; known are ` +
          `${FIELDS[form].join(', ')}`
      )
    }
  }
  const address = form === 'url' ? parseUrl(given['url']) : given
  const tls = given['tls'] ?? ('tls' in address ? address['tls'] : undefined)
  if (tls !== undefined && tls !== true && (typeof tls !== 'object' || tls === null || Array.isArray(tls))) {
    throw new RedisOptionInvalid('tls', 'must be true or the options of tls.connect; leave it out for plain TCP')
  }
  if (typeof tls === 'object') assertUsable(tls)
  return Object.freeze({
    mode: form === 'url' ? 'single' : form,
    nodes: nodesOf(form, given, address),
    name: form === 'sentinel' ? required('name', text('name', given['name'])) : undefined,
    username: text('username', address['username']),
    password: text('password', address['password']),
    sentinelUsername: text('sentinelUsername', given['sentinelUsername']),
    sentinelPassword: text('sentinelPassword', given['sentinelPassword']),
    db: integer('db', address['db'], 0, 65535) ?? 0,
    tls: tls === true ? {} : (tls as ConnectionOptions | undefined),
    connectionName: text('connectionName', given['connectionName']),
    commandTimeoutMs: integer('commandTimeoutMs', given['commandTimeoutMs'], 1, 60_000) ?? 50,
    connectTimeoutMs: integer('connectTimeoutMs', given['connectTimeoutMs'], 1, 60_000) ?? 2_000,
    reconnectMaxDelayMs: integer('reconnectMaxDelayMs', given['reconnectMaxDelayMs'], 10, 60_000) ?? 500
  })
}

function formOf (given: Record<string, unknown>): keyof typeof FIELDS {
  if ('url' in given) return 'url'
  if ('sentinels' in given) return 'sentinel'
  return 'cluster' in given ? 'cluster' : 'single'
}

function nodesOf (
  form: keyof typeof FIELDS,
  given: Record<string, unknown>,
  address: Record<string, unknown>
): RedisNode[] {
  if (form === 'sentinel') return nodes('sentinels', given['sentinels'])
  if (form === 'cluster') return nodes('cluster', given['cluster'])
  const host = text('host', address['host']) ?? '127.0.0.1'
  return [{ host, port: integer('port', address['port'], 1, 65535) ?? 6379 }]
}

/** Refuses certificates that OpenSSL cannot read: ioredis would fail once and never reconnect. */
function assertUsable (tls: ConnectionOptions): void {
  try {
    createSecureContext(tls)
  } catch (error) {
    throw new RedisOptionInvalid('tls', `cannot be used: ${(error as Error).message}`)
  }
}

function parseUrl (value: unknown): Record<string, unknown> {
  // Never repeat the value in a message: it may contain the password.
  const bad = (problem: string): never => { throw new RedisOptionInvalid('url', problem) }
  if (typeof value !== 'string' || !URL.canParse(value)) {
    return bad('must look like redis://[user:password@]host[:port][/db], or rediss: for TLS')
  }
  const url = new URL(value)
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') return bad('must begin with redis:// or rediss://')
  if (url.hostname === '') return bad('has no host')
  if (url.search !== '' || url.hash !== '') return bad('must not have a query or a fragment; set the options next to "url"')
  if (!/^\/?\d{0,5}$/.test(url.pathname)) return bad('may only have a database number as its path')
  const decode = (part: string): string => {
    try {
      return decodeURIComponent(part)
    } catch {
      return bad('has a user or password that is not percent-encoded correctly')
    }
  }
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    ...(url.port === '' ? {} : { port: Number(url.port) }),
    ...(url.username === '' ? {} : { username: decode(url.username) }),
    ...(url.password === '' ? {} : { password: decode(url.password) }),
    ...(url.pathname.length > 1 ? { db: Number(url.pathname.slice(1)) } : {}),
    ...(url.protocol === 'rediss:' ? { tls: true } : {})
  }
}

function nodes (field: string, value: unknown): RedisNode[] {
  if (!Array.isArray(value) || value.length === 0) {
    throw new RedisOptionInvalid(field, 'must be a list of { host, port } with at least one node')
  }
  return value.map((node: unknown, index) => {
    const at = `${field}[${index}]`
    if (typeof node !== 'object' || node === null) throw new RedisOptionInvalid(at, 'must be { host, port }')
    const { host, port } = node as Partial<RedisNode>
    return {
      host: required(`${at}.host`, text(`${at}.host`, host)),
      port: required(`${at}.port`, integer(`${at}.port`, port, 1, 65535))
    }
  })
}

function text (field: string, value: unknown): string | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'string' || value === '') throw new RedisOptionInvalid(field, 'must be a non-empty string')
  return value
}

function integer (field: string, value: unknown, least: number, most: number): number | undefined {
  if (value === undefined) return undefined
  if (!Number.isInteger(value) || (value as number) < least || (value as number) > most) {
    throw new RedisOptionInvalid(field, `must be an integer from ${least} to ${most}`)
  }
  return value as number
}

function required<T> (field: string, value: T | undefined): T {
  if (value === undefined) throw new RedisOptionInvalid(field, 'is required')
  return value
}

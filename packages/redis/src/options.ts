import { checkOptions, optionsInvalid, type OptionProblem, type OptionScope, type OptionTable } from '@marty/core'
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

type AllOptions = Partial<RedisUrlOptions & RedisSingleOptions & RedisSentinelOptions & RedisClusterOptions>
type WithDefault = 'host' | 'port' | 'db' | 'commandTimeoutMs' | 'connectTimeoutMs' | 'reconnectMaxDelayMs'
type CheckedOptions = Omit<AllOptions, WithDefault> & Required<Pick<AllOptions, WithDefault>>

const PORT = { kind: 'integer', min: 1, max: 65_535 } as const
const NODE: OptionTable<RedisNode> = {
  host: { kind: 'string', about: 'Name or address of the node.' },
  port: { ...PORT, about: 'Port of the node.' }
}
const NODES = { kind: 'list', min: 1, items: { kind: 'object', options: NODE } } as const
const TIMEOUT_MS = { kind: 'integer', min: 1, max: 60_000 } as const

/** The options of all forms. */
export const OPTIONS: OptionTable<AllOptions, CheckedOptions> = {
  url: {
    kind: 'string',
    secret: true,
    pattern: { test: value => URL.canParse(value) },
    expected: 'redis://[user:password@]host[:port][/db], or rediss: for TLS',
    verify: urlProblem,
    optional: true,
    about: 'The server, as a URL. Percent-encode special characters of the user and the password.'
  },
  host: { kind: 'string', default: '127.0.0.1', about: 'Name or address of the server.' },
  port: { ...PORT, default: 6379, about: 'Port of the server.' },
  sentinels: { ...NODES, optional: true, about: 'The sentinels, which name the master.' },
  name: {
    kind: 'string',
    expected: 'the name of the master group',
    optional: true,
    defaultText: 'required with `sentinels`',
    about: 'Name of the master group, as configured in the sentinels.'
  },
  sentinelUsername: { kind: 'string', optional: true, about: 'ACL user at the sentinels.' },
  sentinelPassword: { kind: 'string', secret: true, optional: true, about: 'Password at the sentinels.' },
  cluster: { ...NODES, optional: true, about: 'Seed nodes, from which the client learns the other nodes.' },
  db: { kind: 'integer', min: 0, max: 65_535, default: 0, about: 'Number of the database; a cluster has only one.' },
  username: {
    kind: 'string',
    optional: true,
    defaultText: 'the `default` user of Redis',
    about: 'ACL user. With `url`, it is part of the URL.'
  },
  password: { kind: 'string', secret: true, optional: true, about: 'With `url`, it is part of the URL.' },
  tls: {
    kind: 'custom',
    or: [true],
    expected: 'the options of tls.connect',
    accepts: value => typeof value === 'object' && value !== null && !Array.isArray(value),
    verify: tlsProblem,
    optional: true,
    defaultText: 'TCP without TLS; `true` when the URL begins with `rediss:`',
    about: '`true` verifies certificates against the default CA certificates of Node.js. Certificates that cannot be ' +
      'read are refused immediately.'
  },
  connectionName: { kind: 'string', optional: true, about: 'Shown by `CLIENT LIST`.' },
  commandTimeoutMs: {
    ...TIMEOUT_MS,
    default: 50,
    about: 'Deadline of one command; when the process itself is busy, one turn of the event loop longer.'
  },
  connectTimeoutMs: { ...TIMEOUT_MS, default: 2_000, about: 'Deadline of one connection attempt.' },
  reconnectMaxDelayMs: {
    kind: 'integer',
    min: 10,
    max: 60_000,
    default: 500,
    about: 'Longest pause between connection attempts, which continue until `close()`. The pause starts at 50 ms and ' +
      'doubles, with up to 50 % random jitter.'
  }
}

const COMMON = ['tls', 'connectionName', 'commandTimeoutMs', 'connectTimeoutMs', 'reconnectMaxDelayMs']
const LOGIN = ['username', 'password']

/** Which options belong together, and the option that each form is recognized by. */
const FORMS = {
  url: { by: 'url', options: ['url', ...COMMON] },
  single: { by: 'host', options: ['host', 'port', 'db', ...LOGIN, ...COMMON] },
  sentinel: {
    by: 'sentinels',
    options: ['sentinels', 'name', 'db', 'sentinelUsername', 'sentinelPassword', ...LOGIN, ...COMMON]
  },
  cluster: { by: 'cluster', options: ['cluster', ...LOGIN, ...COMMON] }
} as const
type Form = keyof typeof FORMS

const SCOPE: OptionScope = {
  subject: 'redis',
  refuse: (message, problems) => new RedisOptionInvalid(problems[0]!.field, message)
}

/** Checks the options and fills in the defaults. Throws `MARTY_REDIS_OPT_INVALID`, which names every problem. */
export function resolveOptions (options: RedisOptions): ResolvedRedisOptions {
  // A forgotten configuration must not mean the defaults, a server on this machine.
  if ((options as unknown) === undefined) throw optionsInvalid(SCOPE, [{ field: '', problem: 'must be an object' }])
  const checked = checkOptions(OPTIONS, options, SCOPE)
  const form = formOf(checked)
  const problems = [...misplacedOptions(form, options), ...nameProblems(form, checked)]
  if (problems.length > 0) throw optionsInvalid(SCOPE, problems)
  const address = checked.url === undefined ? {} : addressOf(checked.url)
  const { host, port, username, password, db } = { ...checked, ...address }
  const tls = checked.tls ?? address.tls
  return Object.freeze({
    mode: form === 'url' ? 'single' : form,
    nodes: checked.sentinels ?? checked.cluster ?? [{ host, port }],
    name: checked.name,
    username,
    password,
    sentinelUsername: checked.sentinelUsername,
    sentinelPassword: checked.sentinelPassword,
    db,
    tls: tls === true ? {} : tls,
    connectionName: checked.connectionName,
    commandTimeoutMs: checked.commandTimeoutMs,
    connectTimeoutMs: checked.connectTimeoutMs,
    reconnectMaxDelayMs: checked.reconnectMaxDelayMs
  })
}

function formOf ({ url, sentinels, cluster }: CheckedOptions): Form {
  if (url !== undefined) return 'url'
  if (sentinels !== undefined) return 'sentinel'
  return cluster === undefined ? 'single' : 'cluster'
}

/** Options of another form would have no effect. */
function misplacedOptions (form: Form, given: RedisOptions): OptionProblem[] {
  const { by, options } = FORMS[form]
  const misplaced = Object.entries(given).filter(([name, value]) => {
    return value !== undefined && !(options as readonly string[]).includes(name)
  })
  return misplaced.map(([field]) => {
    return { field, problem: `does not belong beside "${by}"; known there are ${options.join(', ')}` }
  })
}

function nameProblems (form: Form, { name }: CheckedOptions): OptionProblem[] {
  if (form !== 'sentinel' || name !== undefined) return []
  return [{ field: 'name', problem: 'is required beside "sentinels"; it must be the name of the master group' }]
}

/** Refuses certificates that OpenSSL cannot read: ioredis would fail once and never reconnect. */
function tlsProblem (tls: ConnectionOptions): string | null {
  try {
    createSecureContext(tls)
    return null
  } catch (error) {
    return `cannot be used: ${(error as Error).message}`
  }
}

/** Never repeats a part of the URL: it may be the password. */
function urlProblem (value: string): string | null {
  const url = new URL(value)
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') return 'must begin with redis:// or rediss://'
  if (url.hostname === '') return 'names no host'
  if (url.port === '0') return 'has port 0; it must be from 1 to 65535'
  if (url.search !== '' || url.hash !== '') return 'must not have a query or fragment; give the options beside it'
  if (!/^\/?\d{0,5}$/.test(url.pathname) || Number(url.pathname.slice(1)) > 65_535) {
    return 'may only have the number of a database as its path, at most 65535'
  }
  if (!isEncoded(url.username) || !isEncoded(url.password)) {
    return 'has a user or password that is not percent-encoded correctly'
  }
  return null
}

function isEncoded (part: string): boolean {
  try {
    decodeURIComponent(part)
    return true
  } catch {
    return false
  }
}

/** The parts of a URL that it names. */
function addressOf (value: string): Pick<AllOptions, 'host' | 'port' | 'username' | 'password' | 'db' | 'tls'> {
  const url = new URL(value)
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    ...(url.port === '' ? {} : { port: Number(url.port) }),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
    ...(url.pathname.length > 1 ? { db: Number(url.pathname.slice(1)) } : {}),
    ...(url.protocol === 'rediss:' ? { tls: true } : {})
  }
}

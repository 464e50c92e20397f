import { closest, type Operation } from '@marty/core'
import { RateLimitOptionInvalid } from './errors.js'
import type { FastifyRateLimitSettings } from './fastify-rate-limit/settings.js'
import type { StoreFailureMode } from './store/failover.js'
import type { LeaseOptions } from './leases/leased-store.js'
import type { ScriptClient } from '@marty/redis'
import type { LimitBy } from './subject.js'
import { presets, type PresetName } from './presets.js'
import type { HeaderStyle } from './response-headers.js'

export interface RateLimitOptions {
  /** The limits by name; each is a rule or the name of a preset. Routes and RPC methods refer to these names. */
  readonly rules: Readonly<Record<string, LimitRule | PresetName>>
  /** Names of rules applied to every operation of a transport, except those with `limits: false`. @default none */
  readonly apply?: { readonly http?: readonly string[], readonly rpc?: readonly string[] }
  /**
   * Names of rules by address that are charged when an authentication fails, on every operation that authenticates its
   * caller. Once such a rule is used up, the address is refused before its next credential is checked. @default none
   */
  readonly onAuthenticationFailure?: readonly string[]
  /** Where units are counted: in this process, or in Redis for all processes. @default 'memory' */
  readonly store?: 'memory' | RedisStoreSettings
  /**
   * Maximum number of entries in each in-process table: windows, and clients known to be over budget. @default 100000
   */
  readonly maxKeys?: number
  /** Monotonic clock in milliseconds, for tests. @default performance.now */
  readonly now?: () => number
  /**
   * Registers `@fastify/rate-limit` with these options, on the same store:
   * `config.rateLimit`, `createRateLimit()` and `rateLimit()` work as that plugin documents
   * them. `true` means `{}`, its defaults: 1000 requests a minute on every route.
   * @default false
   */
  readonly fastifyRateLimit?: boolean | FastifyRateLimitSettings
  /** The claim that names the tenant of a caller, for rules by tenant. @default 'tenant' */
  readonly tenantClaim?: string
  /** Which header fields report limits to clients; `Retry-After` is always sent with a refusal. @default 'draft' */
  readonly headers?: HeaderStyle
}

/** At most `limit` units in every window of `windowMs` milliseconds. */
export interface LimitRule {
  /**
   * A positive integer, or one per role: a caller gets the largest limit of its roles, or `default` if it has none of
   * them. The store keeps one timestamp per unit, so memory grows with the use of the limit; at most 1000000.
   */
  readonly limit: number | (Readonly<Record<string, number>> & { readonly default: number })
  /** Length of the window in milliseconds; a positive integer, at most 366 days. */
  readonly windowMs: number
  /**
   * Which budget is charged. `principal` counts callers without an identity by address,
   * `tenant` counts callers without a tenant by principal, and `apiKey` counts only callers
   * with an API key. `account` and `account+address` count by the account that the caller
   * claims to own. Only the handler knows it, so charge such rules with `limiter.check`.
   */
  readonly by: LimitBy
  /** Units that each call takes. @default 1 */
  readonly cost?: number
  /** A second, shorter window over the same calls: the rule `<name>.burst`. @default none */
  readonly burst?: BurstLimit
  /** What happens while Redis does not answer; overrides the store's `onFailure`. */
  readonly onFailure?: StoreFailureMode
  /**
   * Lets each process lease units of a hot budget for a short time and spend them from memory, without a call to
   * Redis: for limits above 128 that all callers, a tenant or an operation share. Never admits more than the limit;
   * may refuse early, by the units that other processes hold. `true` means `{}`, the defaults. Ignored without Redis.
   * @default false
   */
  readonly lease?: boolean | LeaseOptions
}

/** At most `limit` units in every window of `windowMs`, which is shorter than the rule's own window. */
export interface BurstLimit {
  /** A positive integer, or one per role as in the rule; for no role more than the rule's own limit. */
  readonly limit: LimitRule['limit']
  /** In milliseconds. */
  readonly windowMs: number
}

export interface ResolvedRule extends Required<Pick<LimitRule, 'limit' | 'windowMs' | 'by' | 'cost'>> {
  readonly name: string
  /** The largest limit of any caller (for a burst, that of its rule). Determines the storage format of the window. */
  readonly capacity: number
  readonly onFailure: StoreFailureMode | undefined
  readonly lease: LeaseOptions | undefined
  readonly burst: ResolvedRule | null
  /**
   * The rule whose window it reads: for a burst, the rule it belongs to, unless that rule is leased; otherwise itself.
   */
  readonly windowOf: string
}

export interface RedisStoreSettings {
  /** A connected client such as ioredis, with its offline queue disabled. The plugin never closes it. */
  readonly redis: ScriptClient & { readonly isCluster?: boolean }
  /** Prefix of every key. @default 'marty:limit' */
  readonly prefix?: string
  /** Longest wait for Redis, in milliseconds. @default 50 */
  readonly deadlineMs?: number
  /** What happens while Redis does not answer. @default 'local' */
  readonly onFailure?: StoreFailureMode
  /**
   * How many processes share these limits. With `local`, each process admits its share while Redis is unreachable.
   * `auto`: the processes count each other in Redis, and the last known number applies; a process that has never
   * reached Redis admits one request per window. @default 'auto'
   */
  readonly instances?: 'auto' | number
}

export interface ResolvedOptions {
  /** Bursts have entries of their own. Inline rules are added as routes are declared. */
  readonly rules: Map<string, ResolvedRule>
  readonly apply: Readonly<Record<Operation['transport'], readonly string[]>>
  readonly onAuthenticationFailure: readonly string[]
  readonly store: 'memory' | RedisStoreSettings
  readonly maxKeys: number
  readonly now: (() => number) | undefined
  readonly fastifyRateLimit: boolean | FastifyRateLimitSettings
  readonly tenantClaim: string
  readonly headers: HeaderStyle
}

export const MAX_LIMIT = 1_000_000
export const MAX_WINDOW_MS: number = 366 * 24 * 3600 * 1000
const BY: readonly LimitBy[] = [
  'address', 'principal', 'operation', 'principal+operation', 'address+operation', 'global', 'apiKey', 'tenant',
  'account', 'account+address'
]
const HEADER_STYLES: readonly HeaderStyle[] = ['draft', 'legacy', 'both', 'none']
/** Fastify passes the options of `register` to the plugin, together with the plugin's own. */
const REGISTER_OPTIONS: readonly string[] = ['prefix', 'logLevel', 'logSerializers']
const FAILURE_MODES: readonly StoreFailureMode[] = ['local', 'closed', 'open']

/**
 * Validates the options and fills in the defaults. Throws for an option that cannot be
 * enforced as written, naming the field.
 */
export function resolveOptions (options: RateLimitOptions): ResolvedOptions {
  knownKeys('options', options, [
    'rules', 'apply', 'onAuthenticationFailure', 'store', 'maxKeys', 'now', 'tenantClaim', 'headers',
    'fastifyRateLimit', ...REGISTER_OPTIONS
  ])
  const {
    apply = {},
    onAuthenticationFailure = [],
    store = 'memory',
    maxKeys = 100_000,
    now,
    tenantClaim = 'tenant',
    headers = 'draft',
    fastifyRateLimit = false
  } = options
  const rules = new Map<string, ResolvedRule>()
  for (const [name, rule] of Object.entries(object('rules', options.rules))) {
    addRule(rules, `rules.${name}`, name, typeof rule === 'string' ? presetOf(`rules.${name}`, rule) : rule)
  }

  knownKeys('apply', apply, ['http', 'rpc'])
  const { http = [], rpc = [] } = apply
  verifyNames('apply.http', http, rules)
  verifyNames('apply.rpc', rpc, rules)
  verifyNames('onAuthenticationFailure', onAuthenticationFailure, rules)
  for (const [field, names] of [['apply.http', http], ['apply.rpc', rpc]] as const) {
    const name = names.find(name => rules.get(name)!.by.startsWith('account'))
    if (name !== undefined) {
      throw invalid(
        field,
        `names "${name}", which counts by account; only a handler knows the account: charge it there, ` +
          `limiter.check({ account, address }, ["${name}"])`
      )
    }
  }
  for (const name of onAuthenticationFailure) {
    const by = rules.get(name)?.by ?? ''
    if (!by.startsWith('address')) {
      throw invalid(
        'onAuthenticationFailure',
        `names "${name}", which counts by ${by}; only rules by address or address+operation can be charged before ` +
          'it is known who is calling'
      )
    }
  }
  positive('maxKeys', maxKeys, 10_000_000)
  if (now !== undefined && typeof now !== 'function') {
    throw invalid('now', 'must be a function that returns milliseconds')
  }
  if (typeof tenantClaim !== 'string' || tenantClaim === '') throw invalid('tenantClaim', 'must be the name of a claim')
  oneOf('headers', headers, HEADER_STYLES)
  verifyStore(store)
  return Object.freeze({
    rules,
    apply: { http, rpc },
    onAuthenticationFailure,
    store,
    maxKeys,
    now,
    tenantClaim,
    headers,
    fastifyRateLimit
  })
}

/** Throws unless the value is a list of known rule names without duplicates; `fail` creates the error. */
export function verifyNames (
  field: string,
  names: unknown,
  rules: ReadonlyMap<string, Pick<ResolvedRule, 'windowOf'>>,
  fail: (field: string, message: string) => Error = invalid
): void {
  if (!Array.isArray(names)) throw fail(field, 'must be a list of rule names')
  const seen = new Set<unknown>()
  for (const name of names) {
    if (typeof name !== 'string' || !rules.has(name)) {
      const near = closest(String(name), rules.keys())
      throw fail(
        field,
        `names "${String(name)}", which is not one of the rules ` +
          `(${[...rules.keys()].join(', ') || 'there are none'})${near === null ? '' : `; did you mean "${near}"?`}`
      )
    }
    const { windowOf } = rules.get(name)!
    if (windowOf !== name) {
      throw fail(field, `names "${name}", which is the burst of "${windowOf}" and comes with it; name "${windowOf}"`)
    }
    if (seen.has(name)) throw fail(field, `names "${name}" twice`)
    seen.add(name)
  }
}

export function invalid (field: string, message: string): Error {
  return new RateLimitOptionInvalid(`rate-limit: ${field} ${message}`)
}

/** Throws unless the value is an integer from 1 to the maximum. `word` is a keyword that the option also accepts. */
export function positive (field: string, value: unknown, max: number, word?: string): void {
  if (!Number.isSafeInteger(value) || (value as number) < 1 || (value as number) > max) {
    throw invalid(
      field,
      `must be ${word === undefined ? '' : `"${word}" or `}an integer from 1 to ${max}, not ` +
        `${typeof value === 'string' ? `"${value}"` : String(value)}`
    )
  }
}

/** Adds a rule, and its burst under a separate name. Throws for a field that cannot be enforced, naming it. */
export function addRule (rules: Map<string, ResolvedRule>, field: string, name: string, rule: LimitRule): ResolvedRule {
  // The name is used in keys and in quoted header fields, so only characters that need no escaping are allowed.
  if (!/^[A-Za-z][\w.-]{0,63}$/.test(name)) {
    throw invalid(field, `has an unusable name "${name}"; a letter, then letters, digits, "_", "." or "-", at most 64`)
  }
  if (rules.has(name)) {
    throw invalid(field, `has the name "${name}", which another rule has already; give one of them another name`)
  }
  knownKeys(field, object(field, rule), ['limit', 'windowMs', 'by', 'cost', 'burst', 'onFailure', 'lease'])
  const { limit, windowMs, by, cost = 1, onFailure, lease = false } = rule
  oneOf(`${field}.by`, by, BY)
  if (onFailure !== undefined) oneOf(`${field}.onFailure`, onFailure, FAILURE_MODES)
  verifyWindow(field, limit, windowMs, cost)
  if (typeof lease !== 'boolean') verifyLease(`${field}.lease`, lease)
  const leased = leaseOf(lease)
  const shared = { by, cost, onFailure, capacity: largestOf(limit), lease: leased, windowOf: name }
  let burst: ResolvedRule | null = null
  if (rule.burst !== undefined) {
    verifyBurst(`${field}.burst`, rule.burst, rule)
    const own = `${name}.burst`
    // Leased units are recorded before they are spent, so the record cannot show how many were spent in a short window.
    // The burst of a leased rule therefore has a record of its own.
    burst = Object.freeze({
      ...shared,
      name: own,
      windowOf: leased === undefined ? name : own,
      limit: rule.burst.limit,
      windowMs: rule.burst.windowMs,
      burst: null
    })
    if (rules.has(burst.name)) {
      throw invalid(field, `has a burst, which is the rule "${burst.name}", but another rule has that name already`)
    }
  }
  const resolved = Object.freeze({ ...shared, name, limit, windowMs, burst })
  rules.set(name, resolved)
  if (burst !== null) rules.set(burst.name, burst)
  return resolved
}

function presetOf (field: string, name: string): LimitRule {
  if (Object.hasOwn(presets, name)) return presets[name as PresetName]
  const near = closest(name, Object.keys(presets))
  throw invalid(
    field,
    `is "${name}", which is not one of the presets ` +
      `(${Object.keys(presets).join(', ')})${near === null ? '' : `; did you mean "${near}"?`}`
  )
}

function verifyWindow (field: string, limit: LimitRule['limit'], windowMs: number, cost: number): void {
  positive(`${field}.windowMs`, windowMs, MAX_WINDOW_MS)
  positive(`${field}.cost`, cost, MAX_LIMIT)
  if (typeof limit === 'object' && limit !== null) {
    if (limit.default === undefined) {
      throw invalid(`${field}.limit`, 'needs a "default" for callers with none of its roles')
    }
    for (const [role, units] of Object.entries(limit)) verifyLimit(`${field}.limit.${role}`, units, cost)
  } else {
    verifyLimit(`${field}.limit`, limit, cost)
  }
}

function verifyBurst (field: string, burst: BurstLimit, { limit, windowMs, cost = 1 }: LimitRule): void {
  knownKeys(field, object(field, burst), ['limit', 'windowMs'])
  verifyWindow(field, burst.limit, burst.windowMs, cost)
  if (burst.windowMs >= windowMs) {
    throw invalid(`${field}.windowMs`, `is ${burst.windowMs}, not shorter than the rule's own window (${windowMs})`)
  }
  for (const role of [limit, burst.limit].flatMap(limit =>
    typeof limit === 'number' ? ['default'] : Object.keys(limit)
  )) {
    const [most, whole] = [ofRole(burst.limit, role), ofRole(limit, role)]
    if (most > whole) {
      throw invalid(
        `${field}.limit`,
        `is ${most}, above the rule's own limit (${whole})${role === 'default' ? '' : ` of the role "${role}"`}, so ` +
          'it would limit nothing'
      )
    }
  }
}

function verifyLease (field: string, lease: LeaseOptions): void {
  knownKeys(field, object(field, lease), ['share', 'ttlMs'])
  const { share = 0.1, ttlMs = 100 } = lease
  if (typeof share !== 'number' || !(share > 0 && share <= 0.5)) {
    throw invalid(`${field}.share`, `must be a number above 0 and at most 0.5, not ${String(share)}`)
  }
  if (typeof ttlMs !== 'number' || !(ttlMs >= 5 && ttlMs <= 500)) {
    throw invalid(`${field}.ttlMs`, `must be a number from 5 to 500, not ${String(ttlMs)}`)
  }
}

function leaseOf (lease: boolean | LeaseOptions): LeaseOptions | undefined {
  if (typeof lease === 'object') return lease
  return lease ? {} : undefined
}

function ofRole (limit: LimitRule['limit'], role: string): number {
  if (typeof limit === 'number') return limit
  return Object.hasOwn(limit, role) ? limit[role]! : limit.default
}

function largestOf (limit: LimitRule['limit']): number {
  return typeof limit === 'number' ? limit : Math.max(...Object.values(limit))
}

function verifyLimit (field: string, limit: number, cost: number): void {
  positive(field, limit, MAX_LIMIT)
  if (cost > limit) {
    throw invalid(field, `is ${limit}, less than the cost of one call (${cost}), so nobody could ever call`)
  }
}

export function verifyStore (store: unknown): void {
  if (store === 'memory') return
  if (typeof store !== 'object' || store === null) throw invalid('store', 'must be "memory" or { redis: client }')
  knownKeys('store', store, ['redis', 'prefix', 'deadlineMs', 'onFailure', 'instances'])
  const {
    redis,
    prefix = 'marty:limit',
    deadlineMs = 50,
    onFailure = 'local',
    instances = 'auto'
  } = store as RedisStoreSettings
  if (typeof redis?.callBuffer !== 'function') throw invalid('store.redis', 'must be a Redis client of ioredis')
  if (typeof prefix !== 'string' || !/^[\w:.-]{1,64}$/.test(prefix)) {
    throw invalid('store.prefix', 'must be 1 to 64 letters, digits, "_", ":", "." or "-"')
  }
  positive('store.deadlineMs', deadlineMs, 60_000)
  oneOf('store.onFailure', onFailure, FAILURE_MODES)
  if (instances !== 'auto') positive('store.instances', instances, 100_000, 'auto')
}

export function oneOf (field: string, value: unknown, allowed: readonly string[]): void {
  if (typeof value === 'string' && allowed.includes(value)) return
  const near = closest(String(value), allowed)
  throw invalid(
    field,
    `is "${String(value)}"; it must be one of ${allowed.join(', ')}${near === null ? '' : `; did you mean "${near}"?`}`
  )
}

export function object<T extends object> (field: string, value: T): T {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid(field, 'must be an object')
  return value
}

export function knownKeys (field: string, value: object, known: readonly string[]): void {
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue
    const near = closest(key, known)
    throw invalid(field, `has an unknown member "${key}"${near === null ? '' : `; did you mean "${near}"?`}`)
  }
}

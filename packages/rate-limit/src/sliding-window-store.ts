import { performance } from 'node:perf_hooks'
import type { FastifyRateLimitStore } from '@fastify/rate-limit'
import { DenyCache } from './deny-cache.js'
import { createGuardedStore, type GuardedStoreOptions } from './guarded-store.js'
import { createMemoryStore } from './memory-store.js'
import { invalid, MAX_LIMIT, MAX_WINDOW_MS, positive, verifyStore, type RedisStoreSettings } from './options.js'
import { createRedisStore } from './redis-store.js'
import type { Charge, LimitStore } from './store.js'
import { bounded } from './subject.js'

/** Without `redis`, the logs live in this process and only `maxKeys` and `now` have a meaning. */
export interface SlidingWindowStoreOptions extends Partial<RedisStoreSettings>, Pick<GuardedStoreOptions, 'onDegraded'> {
  /** Bound of each in-process table: logs, and clients known to be over budget. @default 100000 */
  readonly maxKeys?: number
  /** Monotonic clock in milliseconds, for tests. @default performance.now */
  readonly now?: () => number
}

type Answer = { current: number, ttl: number }
type Callback = Parameters<FastifyRateLimitStore['incr']>[1]

/** A store of `@fastify/rate-limit`: what that plugin makes of the class below. */
export interface SlidingWindowStoreInstance extends FastifyRateLimitStore {
  /** Where a client stands, without charging it: what `{ increment: false }` asks for. */
  read (key: string, callback: Callback, timeWindow: number, max: number): void
  /** @param params the plugin's options merged with the route's, and `routeInfo` */
  child (params: object): SlidingWindowStoreInstance
}

export type SlidingWindowStoreConstructor = new (params: object) => SlidingWindowStoreInstance

/** Where the instances of one registration keep their logs. */
export interface Logs {
  readonly store: LimitStore
  readonly denied: DenyCache
  readonly now: () => number
}

/**
 * The exact sliding window as a `store` of `@fastify/rate-limit`: in every window, wherever it begins, at most `max`
 * requests pass, and a refused one costs its sender nothing.
 *
 * `max` up to 1000000 and `timeWindow` up to 366 days. Options that prolong a refusal (`continueExceeding`,
 * `exponentialBackoff`) and `cache` are refused at registration, with `MARTY_RATE_LIMIT_OPT_INVALID`.
 *
 * @example
 * await app.register(fastifyRateLimit, { max: 100, timeWindow: '1 minute', store: slidingWindowStore({ redis }) })
 */
export function slidingWindowStore (options: SlidingWindowStoreOptions = {}): SlidingWindowStoreConstructor {
  const { maxKeys = 100_000, now = () => performance.now(), onDegraded, ...settings } = options
  positive('slidingWindowStore() maxKeys', maxKeys, 10_000_000)
  // Anything that is said of Redis, even `redis: undefined`, means that the logs are to be shared.
  const isShared = Object.keys(settings).length > 0
  if (isShared) verifyStore(settings)
  return storeOn(() => ({ store: isShared ? shared(settings as RedisStoreSettings) : createMemoryStore({ maxKeys, now }), denied: new DenyCache(maxKeys), now }))

  function shared ({ redis, prefix, ...guarded }: RedisStoreSettings): LimitStore {
    const store = createRedisStore(prefix === undefined ? { redis } : { redis, prefix })
    return createGuardedStore({ ...guarded, store, maxKeys, ...(onDegraded === undefined ? {} : { onDegraded }) })
  }
}

/** The same in this process: `store: SlidingWindowStore`. Each registration has logs of its own. */
export const SlidingWindowStore: SlidingWindowStoreConstructor = slidingWindowStore()

/** The class whose instances keep their logs where they are told. */
export function storeOn (logs: () => Logs): SlidingWindowStoreConstructor {
  return class SlidingWindowStore extends Store {
    constructor (params: object) {
      super(params, logs())
    }
  }
}

/** What the plugin hands to a store: its own options, and for one route these merged with the route's. */
interface Params {
  readonly max?: unknown
  readonly timeWindow?: unknown
  readonly ban?: number
  readonly continueExceeding?: boolean
  readonly exponentialBackoff?: boolean
  readonly cache?: unknown
  readonly groupId?: string
  readonly routeInfo?: { readonly method?: string | readonly string[], readonly url?: string }
}

/** No rule of `@marty/rate-limit` can have these names. */
const RULE = '@fastify/rate-limit'
const REFUSED_RULE = '@fastify/rate-limit:refused'

class Store implements SlidingWindowStoreInstance {
  readonly #logs: Logs
  readonly #scope: string
  readonly #capacity: number
  readonly #ban: number

  constructor (params: Params, logs: Logs) {
    verifyParams(params)
    const { max, ban = -1, groupId } = params
    this.#logs = logs
    this.#scope = scopeOf(params)
    // The form of a log follows from the largest limit it can have; routes of a group may have different ones.
    this.#capacity = typeof max === 'number' && groupId === undefined ? max : MAX_LIMIT
    this.#ban = ban
  }

  child (params: object): Store {
    return new Store(params, this.#logs)
  }

  incr (key: string, callback: Callback, timeWindow: number, max: number): void {
    respond(() => this.#take(key, timeWindow, max), callback)
  }

  read (key: string, callback: Callback, timeWindow: number, max: number): void {
    respond(() => this.#peek(key, timeWindow, max), callback)
  }

  #take (key: string, timeWindow: number, max: number): Answer | Promise<Answer> {
    if (max === Infinity) return UNCOUNTED
    const charge = this.#charge(key, timeWindow, max)
    if (charge.limit === 0) return this.#refuse(charge, charge.windowMs)
    const { store, denied, now } = this.#logs
    const name = `${charge.limit} ${charge.subject}`
    // Taken before the question is asked, so that what is remembered ends no later than the store would say.
    const askedAt = now()
    const knownMs = denied.remainingMs(name, askedAt)
    if (knownMs > 0) return this.#refuse(charge, knownMs)
    return then(store.take([charge]), ({ allowed, degraded, states: [state] }) => {
      if (state === undefined) return UNCOUNTED
      if (!degraded && state.retryUs > 0) denied.note(name, askedAt + state.retryUs / 1000)
      return allowed
        ? { current: charge.limit - state.remaining, ttl: toMs(state.resetUs) }
        : this.#refuse(charge, state.retryUs / 1000)
    })
  }

  /** Above `max` by the number of refusals within the window, as far as `ban` needs it. */
  #refuse ({ limit, ...rest }: Charge, retryMs: number): Answer | Promise<Answer> {
    const refused = (times: number): Answer => ({ current: limit + times, ttl: Math.ceil(retryMs) })
    const ban = this.#ban
    if (ban < 1) return refused(1)
    const { store, denied, now } = this.#logs
    const name = `banned ${ban} ${rest.subject}`
    const askedAt = now()
    if (denied.remainingMs(name, askedAt) > 0) return refused(ban + 1)
    const count = { ...rest, rule: REFUSED_RULE, limit: ban, capacity: ban }
    try {
      const answer = then(store.take([count]), ({ allowed, degraded, states: [state] }) => {
        if (state === undefined) return refused(1)
        if (!degraded && state.retryUs > 0) denied.note(name, askedAt + state.retryUs / 1000)
        return refused(allowed ? ban - state.remaining : ban + 1)
      })
      // Refused it is; that this cannot be counted must not turn it into an error, which `skipOnError` lets through.
      return answer instanceof Promise ? answer.catch(() => refused(1)) : answer
    } catch {
      return refused(1)
    }
  }

  #peek (key: string, timeWindow: number, max: number): Answer | Promise<Answer> {
    if (max === Infinity) return UNCOUNTED
    const charge = this.#charge(key, timeWindow, max)
    if (charge.limit === 0) return { current: 0, ttl: 0 }
    // A request is admitted by all its charges or counted in none: beside one that never fits, nothing is taken.
    return then(this.#logs.store.take([charge, { ...charge, rule: 'never', limit: 0, capacity: 1 }]), ({ states: [state] }) =>
      state === undefined ? UNCOUNTED : { current: charge.limit - state.remaining, ttl: toMs(state.retryUs > 0 ? state.retryUs : state.resetUs) })
  }

  #charge (key: string, timeWindow: number, max: number): Charge {
    const limit = Math.floor(max)
    const windowMs = Math.ceil(timeWindow)
    verifyMax('max', limit)
    positive('timeWindow', windowMs, MAX_WINDOW_MS)
    // Stamps leave a log after its window, so every length of window has a log of its own.
    return { rule: RULE, subject: bounded(`${windowMs}:${this.#scope.length}:${this.#scope}${String(key)}`), limit, windowMs, cost: 1, capacity: this.#capacity }
  }
}

const UNCOUNTED: Answer = { current: 0, ttl: 0 }

/**
 * Whose budgets these are: the ones of the registration, of a group, or of a route, with HEAD as GET. What `createRateLimit(options)`
 * makes has no name, so those of one `max` share theirs, in every process alike.
 */
function scopeOf ({ routeInfo, groupId, max }: Params): string {
  if (routeInfo === undefined) return ''
  if (groupId !== undefined) return `group:${groupId}`
  const { method, url } = routeInfo
  return url === undefined
    ? `max:${typeof max === 'number' ? max : ''}`
    : `route:${[method].flat().join(',').replace(/^HEAD$/, 'GET')} ${url}`
}

function verifyParams ({ max, timeWindow, ban = -1, continueExceeding, exponentialBackoff, cache, routeInfo }: Params): void {
  const at = routeInfo?.url === undefined ? '' : `route ${[routeInfo.method].flat().join(',')} ${routeInfo.url}: config.rateLimit.`
  if (continueExceeding === true) throw invalid(`${at}continueExceeding`, PROLONGS)
  if (exponentialBackoff === true) throw invalid(`${at}exponentialBackoff`, PROLONGS)
  if (cache !== undefined) throw invalid(`${at}cache`, 'has no meaning here: the logs of all routes share one bound, "maxKeys"')
  if (typeof max !== 'function') verifyMax(`${at}max`, max)
  if (typeof timeWindow !== 'function') positive(`${at}timeWindow`, timeWindow, MAX_WINDOW_MS)
  if (ban > 0) positive(`${at}ban`, ban, MAX_LIMIT)
}

const PROLONGS = 'cannot be kept: a refused request leaves no trace, so nobody is locked out for longer by knocking; leave it out, or use "ban"'

/** Nobody at all is a limit as well. */
function verifyMax (field: string, max: unknown): void {
  if (max !== 0) positive(field, max, MAX_LIMIT)
}

function respond (ask: () => Answer | Promise<Answer>, callback: Callback): void {
  try {
    const answer = ask()
    if (answer instanceof Promise) answer.then(result => { callback(null, result) }, callback)
    else callback(null, answer)
  } catch (error) {
    callback(error as Error)
  }
}

/** Goes on at once where there is nothing to wait for. */
function then<T, U> (value: T | Promise<T>, next: (value: T) => U | Promise<U>): U | Promise<U> {
  return value instanceof Promise ? value.then(next) : next(value)
}

function toMs (microseconds: number): number {
  return Math.ceil(microseconds / 1000)
}

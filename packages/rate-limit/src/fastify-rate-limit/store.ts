import { budgetKey } from '../admin/budget.js'
import type { DenyCache } from '../store/deny-cache.js'
import type { DecisionObserver } from '../limiter.js'
import { invalid, MAX_LIMIT, MAX_WINDOW_MS, positive } from '../option-scope.js'
import type { Charge, ChargeState, LimitStore } from '../store/store.js'
import { bounded } from '../subject.js'

type Answer = { current: number, ttl: number }
type Callback = (error: Error | null, result?: Answer) => void

/** A store of `@fastify/rate-limit`: an instance of the class that this module creates. */
export interface SlidingWindowStoreInstance {
  incr (key: string, callback: Callback, timeWindow: number, max: number): void
  /** Returns the state of a client without charging it, for `{ increment: false }`. */
  read (key: string, callback: Callback, timeWindow: number, max: number): void
  /** @param params the plugin's options merged with the route's, and `routeInfo` */
  child (params: object): SlidingWindowStoreInstance
}

export type SlidingWindowStoreConstructor = new (params: object) => SlidingWindowStoreInstance

/** The storage that the instances of one registration share. */
export interface Windows {
  readonly store: LimitStore
  /** Receives each decision, so that operators see these budgets together with the others. */
  readonly observer?: DecisionObserver
  readonly denied: DenyCache
  readonly now: () => number
}

/** Creates a store class whose instances use the given storage. */
export function storeOn (windows: () => Windows): SlidingWindowStoreConstructor {
  return class SlidingWindowStore extends Store {
    constructor (params: object) {
      super(params, windows())
    }
  }
}

/**
 * What `@fastify/rate-limit` passes to a store: its own options or, for a route, those
 * merged with the route's options.
 */
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

/** Names that no rule of `@marty/rate-limit` can have. */
const RULE = '@fastify/rate-limit'
const REFUSED_RULE = '@fastify/rate-limit:refused'
const NEVER_RULE = '@fastify/rate-limit:never'

class Store implements SlidingWindowStoreInstance {
  readonly #windows: Windows
  readonly #scope: string
  readonly #capacity: number
  readonly #ban: number

  constructor (params: Params, windows: Windows) {
    verifyParams(params)
    const { max, ban = -1, groupId } = params
    this.#windows = windows
    this.#scope = scopeOf(params)
    // The largest possible limit determines the storage format. Routes of one group may have different limits.
    this.#capacity = typeof max === 'number' && groupId === undefined ? max : MAX_LIMIT
    this.#ban = ban
  }

  child (params: object): Store {
    return new Store(params, this.#windows)
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
    if (charge.limit === 0) return this.#refuse(charge, charge.windowMs * 1000)
    return then(this.#ask(charge), ({ allowed, state }) => {
      if (state === undefined) return UNCOUNTED
      return allowed
        ? { current: charge.limit - state.remaining, ttl: toMs(state.resetUs) }
        : this.#refuse(charge, state.retryUs)
    })
  }

  /**
   * Returns `max` plus the number of refusals within the window, because `@fastify/rate-limit` bans by that difference.
   * Refusals beyond `ban` are not counted.
   */
  #refuse (charge: Charge, retryUs: number): Answer | Promise<Answer> {
    const refused = (times: number): Answer => ({ current: charge.limit + times, ttl: toMs(retryUs) })
    const ban = this.#ban
    if (ban < 1) return refused(1)
    try {
      const answer = then(
        this.#ask({ ...charge, rule: REFUSED_RULE, limit: ban, capacity: ban }),
        ({ allowed, state }) => {
          if (state === undefined) return refused(1)
          return refused(allowed ? ban - state.remaining : ban + 1)
        }
      )
      // The request is refused in any case. If counting the refusal fails, do not return an error: `skipOnError` would
      // admit the request.
      return answer instanceof Promise ? answer.catch(() => refused(1)) : answer
    } catch {
      return refused(1)
    }
  }

  /** The store's decision, or a refusal known without a call to the store. No state: admitted without being counted. */
  #ask (charge: Charge): Decision | Promise<Decision> {
    const { store, denied, now, observer } = this.#windows
    const name = budgetKey(charge.rule, charge.subject)
    // Measured before the call and rounded down, so that a remembered refusal never ends later than the store's own.
    const askedAtUs = Math.floor(now() * 1000)
    const knownUs = Math.round(denied.remainingMs(name, charge, askedAtUs / 1000) * 1000)
    if (knownUs > 0) {
      observer?.refusedFromCache(charge.rule, name, knownUs / 1000, askedAtUs / 1000)
      return { allowed: false, state: { remaining: 0, resetUs: knownUs, retryUs: knownUs } }
    }
    return then(store.take([charge]), answer => {
      observer?.decided([charge], answer, askedAtUs / 1000)
      const { allowed, degraded, states: [state] } = answer
      if (!degraded && state !== undefined && state.retryUs > 0) {
        denied.note(name, charge, (askedAtUs + state.retryUs) / 1000)
      }
      return { allowed, state }
    })
  }

  #peek (key: string, timeWindow: number, max: number): Answer | Promise<Answer> {
    if (max === Infinity) return UNCOUNTED
    const charge = this.#charge(key, timeWindow, max)
    if (charge.limit === 0) return { current: 0, ttl: 0 }
    // A request is admitted by all its charges or counted by none. Adding a charge that never fits takes nothing.
    return then(
      this.#windows.store.take([charge, { ...charge, rule: NEVER_RULE, limit: 0, capacity: 1 }]),
      ({ states: [state] }) =>
        state === undefined
          ? UNCOUNTED
          : { current: charge.limit - state.remaining, ttl: toMs(state.retryUs > 0 ? state.retryUs : state.resetUs) }
    )
  }

  #charge (key: string, timeWindow: number, max: number): Charge {
    // These values may come from functions of the application, so they can be anything; a string is not converted.
    const limit = typeof max === 'number' ? Math.floor(max) : max
    const windowMs = typeof timeWindow === 'number' ? Math.ceil(timeWindow) : timeWindow
    verifyMax('max', limit)
    positive('timeWindow', windowMs, MAX_WINDOW_MS)
    // Timestamps leave a window after its length, so every length needs a window of its own.
    return {
      rule: RULE,
      subject: bounded(`${windowMs}:${this.#scope.length}:${this.#scope}${String(key)}`),
      limit,
      windowMs,
      cost: 1,
      capacity: this.#capacity
    }
  }
}

interface Decision {
  readonly allowed: boolean
  readonly state: ChargeState | undefined
}

const UNCOUNTED: Answer = { current: 0, ttl: 0 }

/**
 * The scope of the budgets: the registration, a group, or a route, where HEAD counts as GET. Limiters that
 * `createRateLimit(options)` creates have no name, so those with the same `max` share budgets, in every process alike.
 */
function scopeOf ({ routeInfo, groupId, max }: Params): string {
  if (routeInfo === undefined) return ''
  if (groupId !== undefined) return `group:${groupId}`
  const { method, url } = routeInfo
  return url === undefined
    ? `max:${typeof max === 'number' ? max : ''}`
    : `route:${[method].flat().join(',').replace(/^HEAD$/, 'GET')} ${url}`
}

function verifyParams ({
  max,
  timeWindow,
  ban = -1,
  continueExceeding,
  exponentialBackoff,
  cache,
  routeInfo
}: Params): void {
  const at =
    routeInfo?.url === undefined
      ? ''
      : `route ${[routeInfo.method].flat().join(',')} ${routeInfo.url}: config.rateLimit.`
  if (continueExceeding === true) throw invalid(`${at}continueExceeding`, PROLONGS)
  if (exponentialBackoff === true) throw invalid(`${at}exponentialBackoff`, PROLONGS)
  if (cache !== undefined) {
    throw invalid(`${at}cache`, 'has no meaning here: the windows of all routes share one bound, "maxKeys"')
  }
  if (typeof max !== 'function') verifyMax(`${at}max`, max)
  if (typeof timeWindow !== 'function') positive(`${at}timeWindow`, timeWindow, MAX_WINDOW_MS)
  if (ban > 0) positive(`${at}ban`, ban, MAX_LIMIT)
}

const PROLONGS =
  'cannot be kept: a refused request leaves no trace, so nobody is locked out for longer by knocking; leave it out, ' +
    'or use "ban"'

/** A limit of 0 is valid: it admits no request. */
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

/** Calls `next` synchronously when the value is not a promise. */
function then<T, U> (value: T | Promise<T>, next: (value: T) => U | Promise<U>): U | Promise<U> {
  return value instanceof Promise ? value.then(next) : next(value)
}

function toMs (microseconds: number): number {
  return Math.ceil(microseconds / 1000)
}

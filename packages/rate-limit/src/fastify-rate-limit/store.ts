import { budgetKey } from '../admin/budget.js'
import type { DenyCache } from '../store/deny-cache.js'
import type { DecisionObserver } from '../limiter.js'
import { invalid, MAX_LIMIT, MAX_WINDOW_MS, positive } from '../options.js'
import type { Charge, ChargeState, LimitStore } from '../store/store.js'
import { bounded } from '../subject.js'

type Answer = { current: number, ttl: number }
type Callback = (error: Error | null, result?: Answer) => void

/** A store of `@fastify/rate-limit`: what that plugin makes of the class below. */
export interface SlidingWindowStoreInstance {
  incr (key: string, callback: Callback, timeWindow: number, max: number): void
  /** Where a client stands, without charging it: what `{ increment: false }` asks for. */
  read (key: string, callback: Callback, timeWindow: number, max: number): void
  /** @param params the plugin's options merged with the route's, and `routeInfo` */
  child (params: object): SlidingWindowStoreInstance
}

export type SlidingWindowStoreConstructor = new (params: object) => SlidingWindowStoreInstance

/** Where the instances of one registration keep their logs. */
export interface Logs {
  readonly store: LimitStore
  /** Hears of each decision, so that operators see these budgets beside the others. */
  readonly observer?: DecisionObserver
  readonly denied: DenyCache
  readonly now: () => number
}

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
const NEVER_RULE = '@fastify/rate-limit:never'

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
    if (charge.limit === 0) return this.#refuse(charge, charge.windowMs * 1000)
    return then(this.#ask(charge), ({ allowed, state }) => {
      if (state === undefined) return UNCOUNTED
      return allowed
        ? { current: charge.limit - state.remaining, ttl: toMs(state.resetUs) }
        : this.#refuse(charge, state.retryUs)
    })
  }

  /** Above `max` by the number of refusals within the window, as far as `ban` needs it. */
  #refuse (charge: Charge, retryUs: number): Answer | Promise<Answer> {
    const refused = (times: number): Answer => ({ current: charge.limit + times, ttl: toMs(retryUs) })
    const ban = this.#ban
    if (ban < 1) return refused(1)
    try {
      const answer = then(
        this.#ask({ ...charge, rule: REFUSED_RULE, limit: ban, capacity: ban }),
        ({ allowed, state }) => refused(state === undefined ? 1 : allowed ? ban - state.remaining : ban + 1)
      )
      // Refused it is; that this cannot be counted must not turn it into an error, which `skipOnError` lets through.
      return answer instanceof Promise ? answer.catch(() => refused(1)) : answer
    } catch {
      return refused(1)
    }
  }

  /** The store's decision, or the one that is known without asking it. No state: let through uncounted. */
  #ask (charge: Charge): Decision | Promise<Decision> {
    const { store, denied, now, observer } = this.#logs
    const name = budgetKey(charge.rule, charge.subject)
    // Taken before the question is asked and rounded down, so that what is remembered ends no later than the store would say.
    const askedAtUs = Math.floor(now() * 1000)
    const knownUs = Math.round(denied.remainingMs(name, charge, askedAtUs / 1000) * 1000)
    if (knownUs > 0) {
      observer?.known(charge.rule, name, knownUs / 1000, askedAtUs / 1000)
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
    // A request is admitted by all its charges or counted in none: beside one that never fits, nothing is taken.
    return then(
      this.#logs.store.take([charge, { ...charge, rule: NEVER_RULE, limit: 0, capacity: 1 }]),
      ({ states: [state] }) =>
        state === undefined
          ? UNCOUNTED
          : { current: charge.limit - state.remaining, ttl: toMs(state.retryUs > 0 ? state.retryUs : state.resetUs) }
    )
  }

  #charge (key: string, timeWindow: number, max: number): Charge {
    // From functions of the application, so they may be anything at all; text is not taken for a number.
    const limit = typeof max === 'number' ? Math.floor(max) : max
    const windowMs = typeof timeWindow === 'number' ? Math.ceil(timeWindow) : timeWindow
    verifyMax('max', limit)
    positive('timeWindow', windowMs, MAX_WINDOW_MS)
    // Stamps leave a log after its window, so every length of window has a log of its own.
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
    throw invalid(`${at}cache`, 'has no meaning here: the logs of all routes share one bound, "maxKeys"')
  }
  if (typeof max !== 'function') verifyMax(`${at}max`, max)
  if (typeof timeWindow !== 'function') positive(`${at}timeWindow`, timeWindow, MAX_WINDOW_MS)
  if (ban > 0) positive(`${at}ban`, ban, MAX_LIMIT)
}

const PROLONGS =
  'cannot be kept: a refused request leaves no trace, so nobody is locked out for longer by knocking; leave it out, ' +
    'or use "ban"'

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

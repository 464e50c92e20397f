import { performance } from 'node:perf_hooks'
import { DenyCache } from '../store/deny-cache.js'
import { storeOn, type SlidingWindowStoreConstructor } from './store.js'
import type { GuardedStoreOptions } from '../store/failover.js'
import { createMemoryStore } from '../store/memory.js'
import { invalid, positive, verifyStore, type RedisStoreSettings } from '../options.js'
import { createSharedStore } from '../store/shared.js'
import type { LimitStore } from '../store/store.js'

/** Without `redis`, the windows are kept in this process, and only `maxKeys` and `now` have an effect. */
export interface SlidingWindowStoreOptions
  extends Partial<RedisStoreSettings>, Pick<GuardedStoreOptions, 'onDegraded'> {
  /**
   * Maximum number of entries in each in-process table: windows, and clients known to be over budget. @default 100000
   */
  readonly maxKeys?: number
  /** Monotonic clock in milliseconds, for tests. @default performance.now */
  readonly now?: () => number
}

/**
 * The exact sliding window as a `store` of `@fastify/rate-limit`: in every window, wherever it begins, at most `max`
 * requests are admitted, and a refused request is not counted.
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
  for (const [name, value] of Object.entries({ now, onDegraded })) {
    if (value !== undefined && typeof value !== 'function') {
      throw invalid(`slidingWindowStore() ${name}`, 'must be a function')
    }
  }
  // Any option of Redis, even `redis: undefined`, means that the windows are to be shared.
  const isShared = Object.keys(settings).length > 0
  if (isShared) verifyStore(settings)
  return storeOn(() => ({
    store: isShared ? shared(settings as RedisStoreSettings) : createMemoryStore({ maxKeys, now }),
    denied: new DenyCache(maxKeys),
    now
  }))

  function shared (settings: RedisStoreSettings): LimitStore {
    const { store, count } = createSharedStore(
      settings,
      onDegraded === undefined ? { maxKeys } : { maxKeys, onDegraded }
    )
    // A store is not notified when the application closes. Its instance is removed once its heartbeats stop.
    count?.start()
    return store
  }
}

/** The store without Redis: `store: SlidingWindowStore`. Each registration has its own windows. */
export const SlidingWindowStore: SlidingWindowStoreConstructor = slidingWindowStore()

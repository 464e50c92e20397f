import { checkOptions, type OptionScope, type OptionTable } from '@marty/core'
import { SCOPE } from '../option-scope.js'
import { DenyCache } from '../store/deny-cache.js'
import type { GuardedStoreOptions } from '../store/failover.js'
import { createMemoryStore } from '../store/memory.js'
import { createSharedStore } from '../store/shared.js'
import type { LimitStore } from '../store/store.js'
import {
  MAX_KEYS, NOW, REDIS_STORE, type RedisStoreSettings, type ResolvedRedisStore
} from '../store-options.js'
import { storeOn, type SlidingWindowStoreConstructor } from './store.js'

interface ProcessOptions extends Pick<GuardedStoreOptions, 'onDegraded'> {
  /**
   * Maximum number of entries in each in-process table: windows, and clients known to be over budget. @default 100000
   */
  readonly maxKeys?: number
  /** Monotonic clock in milliseconds, for tests. @default performance.now */
  readonly now?: () => number
}

/** Without `redis`, the windows are kept in this process, and only `maxKeys` and `now` have an effect. */
export interface SlidingWindowStoreOptions extends Partial<RedisStoreSettings>, ProcessOptions {}

type CheckedProcessOptions = Required<Omit<ProcessOptions, 'onDegraded'>> & Pick<ProcessOptions, 'onDegraded'>

const PROCESS: OptionTable<ProcessOptions, CheckedProcessOptions> = {
  maxKeys: MAX_KEYS,
  now: NOW,
  onDegraded: {
    kind: 'function',
    expected: 'a function (error) => void',
    optional: true,
    about: 'Called when Redis fails, at most once in ten seconds.'
  }
}
const SHARED: OptionTable<RedisStoreSettings & ProcessOptions, ResolvedRedisStore & CheckedProcessOptions> = {
  ...REDIS_STORE,
  ...PROCESS
}
const STORE_SCOPE: OptionScope = { ...SCOPE, subject: 'slidingWindowStore()' }

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
  // Any option of Redis, even `redis: undefined`, means that the windows are to be shared.
  const isShared = Object.keys(options).some(name => !Object.hasOwn(PROCESS, name))
  if (isShared) {
    const shared = checkOptions(SHARED, options as RedisStoreSettings & ProcessOptions, STORE_SCOPE)
    return windowsOn(shared, () => createShared(shared))
  }
  const local = checkOptions(PROCESS, options, STORE_SCOPE)
  return windowsOn(local, () => createMemoryStore({ maxKeys: local.maxKeys, now: local.now }))
}

function windowsOn (
  { maxKeys, now }: CheckedProcessOptions,
  createStore: () => LimitStore
): SlidingWindowStoreConstructor {
  return storeOn(() => ({ store: createStore(), denied: new DenyCache(maxKeys), now }))
}

function createShared ({ maxKeys, onDegraded, ...settings }: ResolvedRedisStore & CheckedProcessOptions): LimitStore {
  const { store, count } = createSharedStore(settings, onDegraded === undefined ? { maxKeys } : { maxKeys, onDegraded })
  // A store is not notified when the application closes. Its instance is removed once its heartbeats stop.
  count?.start()
  return store
}

/** The store without Redis: `store: SlidingWindowStore`. Each registration has its own windows. */
export const SlidingWindowStore: SlidingWindowStoreConstructor = slidingWindowStore()

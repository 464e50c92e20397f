import { createGuardedStore, type GuardedStoreOptions } from './failover.js'
import { createInstanceCount, type InstanceCount } from './instance-count.js'
import type { RedisStoreSettings } from '../options.js'
import { createRedisStore } from '../redis/store.js'
import type { LimitStore } from './store.js'

export interface SharedStore {
  readonly store: LimitStore
  /** Null when the number of instances was given. */
  readonly count: InstanceCount | null
}

type Callbacks = Pick<GuardedStoreOptions, 'maxKeys' | 'onDegraded'> & {
  readonly onUncounted?: (error: unknown) => void
}

/**
 * Creates the store of a limiter on Redis from its settings. Instances are counted once
 * `count.start()` has been called.
 */
export function createSharedStore (
  settings: RedisStoreSettings,
  { onUncounted, ...callbacks }: Callbacks
): SharedStore {
  const { redis, prefix, deadlineMs = 50, instances = 'auto', ...rest } = settings
  const location = prefix === undefined ? { redis } : { redis, prefix }
  const count =
    instances === 'auto'
      ? createInstanceCount(onUncounted === undefined ? location : { ...location, onFailure: onUncounted })
      : null
  const store = createGuardedStore({
    ...rest,
    ...callbacks,
    deadlineMs,
    store: createRedisStore({ ...location, deadlineMs }),
    instances: count === null ? (instances as number) : count.current
  })
  return { store, count }
}

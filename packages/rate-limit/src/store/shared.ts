import { createGuardedStore, type GuardedStoreOptions } from './failover.js'
import { createInstanceCount, type InstanceCount } from './instance-count.js'
import { createRedisStore } from '../redis/store.js'
import type { ResolvedRedisStore } from '../store-options.js'
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
  { redis, prefix, deadlineMs, onFailure, instances }: ResolvedRedisStore,
  { onUncounted, ...callbacks }: Callbacks
): SharedStore {
  const count =
    instances === 'auto'
      ? createInstanceCount({ redis, prefix, ...onUncounted === undefined ? {} : { onFailure: onUncounted } })
      : null
  const store = createGuardedStore({
    ...callbacks,
    onFailure,
    deadlineMs,
    store: createRedisStore({ redis, prefix, deadlineMs }),
    instances: count === null ? (instances as number) : count.current
  })
  return { store, count }
}

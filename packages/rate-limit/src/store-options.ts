import type { ItemSpec, OptionSpec, OptionTable } from '@marty/core'
import type { ScriptClient } from '@marty/redis'
import { performance } from 'node:perf_hooks'
import { DEFAULT_PREFIX } from './redis/key.js'
import type { StoreFailureMode } from './store/failover.js'

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

export type ResolvedRedisStore = Required<RedisStoreSettings>

export const FAILURE_MODE: ItemSpec<StoreFailureMode> = { kind: 'choice', choices: ['local', 'closed', 'open'] }

export const REDIS_STORE: OptionTable<RedisStoreSettings> = {
  redis: {
    kind: 'custom',
    expected: 'a Redis client of ioredis',
    accepts: value => typeof (value as Partial<ScriptClient> | null)?.callBuffer === 'function',
    about: 'A connected client. Disable its offline queue and its automatic resending. The plugin never closes it.'
  },
  prefix: {
    kind: 'string',
    pattern: /^[\w:.-]{1,64}$/,
    expected: '1 to 64 letters, digits, "_", ":", "." or "-"',
    default: DEFAULT_PREFIX,
    about: 'Prefix of every key.'
  },
  deadlineMs: {
    kind: 'integer',
    min: 1,
    max: 60_000,
    default: 50,
    about: 'Longest wait for Redis; one more turn of the event loop when the process itself is busy.'
  },
  onFailure: {
    ...FAILURE_MODE,
    default: 'local',
    about: "While Redis does not answer: `local` admits this process's share of the limit, `closed` refuses with 503, " +
      '`open` admits everything.'
  },
  instances: {
    kind: 'integer',
    or: ['auto'],
    min: 1,
    max: 100_000,
    default: 'auto',
    about: 'How many processes share the limits; with `auto`, they count each other in Redis. A process that has never ' +
      'reached Redis then admits one request per window and budget.'
  }
}

export const MAX_KEYS: OptionSpec<number | undefined, number> = {
  kind: 'integer',
  min: 1,
  max: 10_000_000,
  default: 100_000,
  about: 'Maximum number of entries in each in-process table: windows, and clients known to be over budget.'
}

export const NOW: OptionSpec<(() => number) | undefined, () => number> = {
  kind: 'function',
  expected: 'a function that returns milliseconds',
  default: () => performance.now(),
  defaultText: '`performance.now`',
  about: 'Monotonic clock, for tests.'
}

import { delayMs, type LockoutStore } from './lockout.js'
import type { ResolvedLockout } from './lockout-options.js'
import type { RedisAuthStore } from './store-options.js'
import { storeScript } from './store-script.js'

const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`

const WAIT = `${NOW}
local wait = redis.call('HGET', KEYS[1], 'wait')
return wait and math.max(0, wait - now) or 0
`

/**
 * ARGV: window in milliseconds, then how long each failure makes wait, the last of which locks. The key goes when the failures are
 * to be forgotten. Failures that were under way when the lock fell do not lengthen it.
 */
const FAIL = `${NOW}
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
local last = #ARGV - 1
if failures == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
if failures <= last then
  local delay = tonumber(ARGV[failures + 1])
  redis.call('HSET', KEYS[1], 'wait', now + delay)
  if failures == last or redis.call('PTTL', KEYS[1]) < delay then redis.call('PEXPIRE', KEYS[1], math.max(delay, 1)) end
end
return { math.max(0, redis.call('HGET', KEYS[1], 'wait') - now), failures == last and 1 or 0 }
`

const CLEAR = 'return redis.call(\'DEL\', KEYS[1])'

/** Counts pairs in Redis, for all replicas together; each key goes by itself. */
export function createRedisLockoutStore ({ redis, prefix }: Required<RedisAuthStore>, options: ResolvedLockout): LockoutStore {
  const wait = storeScript(redis, WAIT)
  const fail = storeScript(redis, FAIL)
  const clear = storeScript(redis, CLEAR)
  const delays = Array.from({ length: options.maxFailures }, (_, index) => delayMs(index + 1, options))
  const keysOf = (pair: string): readonly string[] => [`${prefix}:lockout:${pair}`]
  return {
    waitMs: async pair => await wait(keysOf(pair), []) as number,
    async fail (pair) {
      const [waitMs, locked] = await fail(keysOf(pair), [options.windowSeconds * 1000, ...delays]) as [number, number]
      return { waitMs, locked: locked === 1 }
    },
    clear: async pair => { await clear(keysOf(pair), []) }
  }
}

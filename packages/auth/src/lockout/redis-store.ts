import { redisScript } from '@marty/redis/script'
import type { LockoutLimits } from './options.js'
import type { RedisAuthStore } from '../store-options.js'

/**
 * Like {@link MemoryLockoutStore}, but exact over all processes that share the server. Rejects when
 * Redis does.
 */
export interface RedisLockoutStore {
  wait (pair: string): Promise<number>
  fail (pair: string): Promise<boolean>
  clear (pair: string): Promise<void>
}

// The key stores the times of the counted failures in milliseconds, oldest first. A pair with `limit` of
// them is locked.
const readTimes = `
local limit, window, lock = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local times = {}
for time in string.gmatch(redis.call('GET', KEYS[1]) or '', '%d+') do times[#times + 1] = tonumber(time) end
local function keep () redis.call('SET', KEYS[1], table.concat(times, ' '), 'PX', math.max(window, lock)) end
-- The server's clock was set back: the latest failure was just now.
local ahead = (times[#times] or now) - now
if ahead > 0 then
  for i = 1, #times do times[i] = times[i] - ahead end
  keep()
end
local function wait ()
  local pause = 0
  if #times >= limit then pause = lock
  elseif #times >= 2 then pause = math.min(lock, 1000 * 2 ^ (#times - 2)) end
  return math.max(0, (times[#times] or now) + pause - now)
end
`

const runWait = redisScript(`${readTimes} return wait()`)

const runFail = redisScript(`${readTimes}
local isLock = #times >= limit
if isLock and wait() > 0 then return 0 end
local counted = {}
for _, time in ipairs(times) do
  if not isLock and time > now - window then counted[#counted + 1] = time end
end
counted[#counted + 1] = now
times = counted
keep()
return #times >= limit and 1 or 0
`)

const runClear = redisScript("return redis.call('DEL', KEYS[1])")

export function createRedisLockoutStore (
  { redis, prefix }: Required<RedisAuthStore>,
  { maxFailures, windowMs, lockMs }: LockoutLimits
): RedisLockoutStore {
  // Each call uses one key, so keys may be in different cluster slots.
  const keyOf = (pair: string): string => `${prefix}:lockout:${pair}`
  const limits = [maxFailures, windowMs, lockMs]
  return {
    wait: async pair => Number(await runWait(redis, [keyOf(pair)], limits)),
    fail: async pair => (await runFail(redis, [keyOf(pair)], limits)) === 1,
    clear: async pair => {
      await runClear(redis, [keyOf(pair)], [])
    }
  }
}

import { LEAD } from '../redis/script.js'

/**
 * Scripts for operators. They are not on the path of requests, so their arguments are
 * not packed. Times are those of Redis.
 */

/**
 * Reads one window without writing. KEYS: the window. ARGV: limit, length in microseconds, cost, and 1 for a list.
 * Reply: units used in the window, and `resetUs` and `retryUs` for a request of that cost.
 */
export const PEEK_SCRIPT: string = `${LEAD}
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local limit, window, cost, list = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local packed = not list and redis.call('GET', KEYS[1]) or ''
local length = list and redis.call('LLEN', KEYS[1]) or #packed / 7
local ahead = 0
local function at (index)
  local stamp = list and tonumber(redis.call('LINDEX', KEYS[1], index)) or struct.unpack('>I7', packed, index * 7 + 1)
  return stamp - ahead
end
-- As the next decision will: it sets back what the server's clock has left.
if length > 0 then ahead = math.max(0, at(length - 1) - now - (list and lead_of(window) or 0)) end
local low, high = 0, length
while low < high do
  local middle = math.floor((low + high) / 2)
  if at(middle) + window <= now then low = middle + 1 else high = middle end
end
local function until_gone (index)
  return at(index) + window - now
end
local used, reset, retry = length - low, 0, 0
if used > 0 then reset = until_gone(low) end
if used + cost > limit and used > 0 then retry = until_gone(math.min(low + used + cost - limit, length) - 1) end
return { used, reset, retry }
`

/** Deletes a window. KEYS: both storage formats of the window. Reply: how many of them existed. */
export const FORGET_SCRIPT: string = `
return redis.call('DEL', KEYS[1], KEYS[2])
`

/**
 * Records that a budget was reset, for the processes that remember its refusal. KEYS: the refused budgets, their
 * numbers of refusals, the resets. ARGV: the budget, how long a refusal by its rule may be remembered (milliseconds),
 * and the maximum number of resets.
 */
export const RESET_SCRIPT: string = `
local time = redis.call('TIME')
local now = math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000)
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[3]))
redis.call('PEXPIRE', KEYS[3], math.max(redis.call('PTTL', KEYS[3]), tonumber(ARGV[2])))
return 1
`

/**
 * Records the refused budgets. KEYS: as above. ARGV: how long an entry is kept after its refusal ends (milliseconds),
 * the maximum number of entries, then for each budget its key, milliseconds until a request fits, milliseconds since
 * the store refused, and the refusals since the last report. Reply: the budgets that were reset after the store had
 * refused. One second is allowed for transmission: forgetting a refusal unnecessarily costs only one call.
 */
export const REPORT_SCRIPT: string = `
local time = redis.call('TIME')
local now = math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000)
local linger, bound = tonumber(ARGV[1]), tonumber(ARGV[2])
local reset = {}
local function drop (gone)
  if #gone == 0 then return end
  redis.call('ZREM', KEYS[1], unpack(gone))
  redis.call('HDEL', KEYS[2], unpack(gone))
end
drop(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - linger))
for i = 3, #ARGV, 4 do
  local budget = ARGV[i]
  local reset_at = redis.call('ZSCORE', KEYS[3], budget)
  if reset_at and tonumber(reset_at) >= now - tonumber(ARGV[i + 2]) - 1000 then
    reset[#reset + 1] = budget
  else
    local till, known = now + tonumber(ARGV[i + 1]), redis.call('ZSCORE', KEYS[1], budget)
    if not known or tonumber(known) < till then redis.call('ZADD', KEYS[1], till, budget) end
    redis.call('HINCRBY', KEYS[2], budget, ARGV[i + 3])
  end
end
drop(redis.call('ZRANGE', KEYS[1], 0, -1 - bound))
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if last[2] then
  local ttl = math.max(1, tonumber(last[2]) - now) + linger
  redis.call('PEXPIRE', KEYS[1], ttl)
  redis.call('PEXPIRE', KEYS[2], ttl)
end
return reset
`

/**
 * Reads the refused budgets. KEYS: the refused budgets, their numbers of refusals.
 * ARGV: how long an entry is kept after its refusal ends (milliseconds). Reply: for
 * each budget its key, milliseconds until a request fits, and the refusals.
 */
export const TOP_SCRIPT: string = `
local time = redis.call('TIME')
local now = math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000)
local answer = {}
local found = redis.call('ZRANGEBYSCORE', KEYS[1], now - tonumber(ARGV[1]), '+inf', 'WITHSCORES')
for i = 1, #found, 2 do
  answer[#answer + 1] = { found[i], math.max(0, tonumber(found[i + 1]) - now), tonumber(redis.call('HGET', KEYS[2], found[i]) or 0) }
end
return answer
`

/** Publishes the rules. KEYS: the rules. ARGV: how long they are kept (milliseconds), then pairs of name and JSON. */
export const RULES_SCRIPT: string = `
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
`

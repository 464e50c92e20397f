/**
 * Decides one request by all of its logs and records it, atomically.
 *
 * KEYS: one log for each charge. ARGV: for each charge its limit, window in microseconds, and cost.
 * Answer: allowed (1 or 0), then for each charge remaining, resetUs and retryUs.
 *
 * A log is a list of stamps, oldest first. A list is exact as no counter or bucket is: it holds every admitted unit.
 * Against a sorted set it needs no unique members (equal stamps are simply repeated) and about a third of the memory,
 * because Redis packs integers; against a packed string nothing is copied when one stamp is added.
 *
 * - Time is Redis's own, so the clocks of the callers do not matter.
 * - Stamps are written with %.0f: Lua turns large numbers into text with 14 digits, and sixteen are needed.
 * - A stamp is never older than the one before it, even when the server's clock steps back: the search relies on the order.
 * - Writes come last and only when every charge fits.
 * - The time to live exceeds the window by a second, because expiry is counted in milliseconds and must not come early.
 */
export const TAKE_SCRIPT: string = `
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local allowed = 1
local logs = {}

for i, key in ipairs(KEYS) do
  local limit, window, cost = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local length = redis.call('LLEN', key)
  local first, last = 0, length
  while first < last do
    local middle = math.floor((first + last) / 2)
    if tonumber(redis.call('LINDEX', key, middle)) + window <= now then first = middle + 1 else last = middle end
  end
  local stamp = now
  if length > 0 then stamp = math.max(now, tonumber(redis.call('LINDEX', key, -1))) end
  logs[i] = { limit = limit, window = window, cost = cost, first = first, live = length - first, stamp = stamp }
  if length - first + cost > limit then allowed = 0 end
end

local answer = { allowed }
for i, key in ipairs(KEYS) do
  local log = logs[i]
  local leaves = function (index)
    local stamp = log.stamp
    if index < log.live then stamp = tonumber(redis.call('LINDEX', key, log.first + index)) end
    return math.min(stamp + log.window - now, log.window)
  end
  local count = log.live + allowed * log.cost
  local over = count + log.cost - log.limit
  answer[3 * i - 1] = math.max(0, log.limit - count)
  answer[3 * i] = count > 0 and leaves(0) or 0
  answer[3 * i + 1] = over > 0 and leaves(over - 1) or 0
end

if allowed == 1 then
  for i, key in ipairs(KEYS) do
    local log = logs[i]
    if log.first > 0 then redis.call('LTRIM', key, log.first, -1) end
    local stamp = string.format('%.0f', log.stamp)
    for _ = 1, log.cost do redis.call('RPUSH', key, stamp) end
    redis.call('PEXPIRE', key, string.format('%.0f', log.window / 1000 + 1000))
  end
end
return answer
`

/**
 * Decides a batch of requests, each by all of its logs, and records them, atomically.
 *
 * KEYS: every log that the batch touches, once. Arguments and answer are packed, because text would cost more to write and
 * to read than the decision itself. All numbers are big-endian.
 * ARGV[1], the rules: for each limit (4 bytes), window in microseconds (6), and whether its logs are lists (1).
 * ARGV[2], the requests: for each the number of its charges (1), then for each charge the index of its key (2), of its rule (2), and
 * its cost (3). Indexes begin with 1.
 * Answer: Redis's time in microseconds (7), then for each request allowed (1), and for each charge remaining (3), resetUs (6) and
 * retryUs (6). A later request of a batch sees what an earlier one took.
 *
 * A log holds every admitted unit, which makes it exact as no counter or bucket is. Small ones are packed: seven bytes a
 * stamp in one string, read and written whole, a quarter of a sorted set's memory. Beyond {@link PACKED_LIMIT} stamps
 * copying them would cost more than it saves, and a list is used, of which only the ends and a few stamps are touched.
 *
 * - Time is Redis's own, so the clocks of the callers do not matter.
 * - Stamps in lists are written with %.0f: Lua turns large numbers into text with 14 digits, and sixteen are needed.
 * - A stamp is never older than the one before it, even when the server's clock steps back: the search relies on the order.
 * - A refused request writes nothing. When memory is out, Redis refuses the first write of a script, so none is made.
 * - The time to live exceeds the window by a second, because expiry is counted in milliseconds and must not come early.
 */
export const TAKE_SCRIPT: string = `
local call, spack, sunpack, sub, rep = redis.call, struct.pack, struct.unpack, string.sub, string.rep
local floor, max, min = math.floor, math.max, math.min
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local limits, windows, lists = {}, {}, {}
local rules = ARGV[1]
local pos, count = 1, 0
while pos <= #rules do
  count = count + 1
  local list
  limits[count], windows[count], list, pos = sunpack('>I4I6B', rules, pos)
  lists[count] = list == 1
end

local values = call('MGET', unpack(KEYS))
local first, live, stamps, oldest, changed = {}, {}, {}, {}, {}
local packed_now = spack('>I7', now)

local function list_at (key, index) return tonumber(call('LINDEX', key, index)) end

local function open (k, rule)
  local list, window = lists[rule], windows[rule]
  local key, value = KEYS[k], values[k] or ''
  local length = list and call('LLEN', key) or #value / 7
  local stamp, low, head = now, 0, nil
  if length > 0 then
    head = list and list_at(key, 0) or (sunpack('>I7', value))
    if head + window <= now then
      local high = length
      low = 1
      while low < high do
        local middle = floor((low + high) / 2)
        local there = list and list_at(key, middle) or (sunpack('>I7', value, middle * 7 + 1))
        if there + window <= now then low = middle + 1 else high = middle end
      end
      head = low < length and (list and list_at(key, low) or (sunpack('>I7', value, low * 7 + 1))) or nil
    end
    local newest = length == 1 and (head or 0) or list and list_at(key, -1) or (sunpack('>I7', value, length * 7 - 6))
    if newest > now then stamp = newest end
  end
  values[k], first[k], live[k], stamps[k], oldest[k] = value, low, length - low, stamp, head
  return length - low
end

local function push (key, text, cost)
  local texts = {}
  for i = 1, min(cost, 1000) do texts[i] = text end
  for left = cost, 1, -1000 do call('RPUSH', key, unpack(texts, 1, min(left, 1000))) end
end

local requests = ARGV[2]
local answer, n = { packed_now }, 1
local ks, rs, cs = {}, {}, {}
pos = 1
while pos <= #requests do
  local charges
  local allowed = true
  charges, pos = sunpack('B', requests, pos)
  for c = 1, charges do
    local k, rule, cost
    k, rule, cost, pos = sunpack('>HHI3', requests, pos)
    ks[c], rs[c], cs[c] = k, rule, cost
    if (live[k] or open(k, rule)) + cost > limits[rule] then allowed = false end
  end
  n = n + 1
  answer[n] = allowed and '\\1' or '\\0'
  for c = 1, charges do
    local k, rule, cost = ks[c], rs[c], cs[c]
    local window, list = windows[rule], lists[rule]
    if allowed then
      local stamp = stamps[k]
      if list then
        local key = KEYS[k]
        if first[k] > 0 then call('LTRIM', key, first[k], -1) end
        push(key, string.format('%.0f', stamp), cost)
        call('PEXPIRE', key, floor(window / 1000) + 1000)
        first[k] = 0
      else
        local packed = stamp == now and packed_now or spack('>I7', stamp)
        if cost > 1 then packed = rep(packed, cost) end
        if first[k] > 0 then
          values[k] = sub(values[k], first[k] * 7 + 1) .. packed
          first[k] = 0
        else
          values[k] = values[k] .. packed
        end
        changed[k] = floor(window / 1000) + 1000
      end
      if live[k] == 0 then oldest[k] = stamp end
      live[k] = live[k] + cost
    end
    local held, reset, retry = live[k], 0, 0
    if held > 0 then
      reset = min(oldest[k] + window - now, window)
      local over = held + cost - limits[rule]
      if over == 1 then retry = reset
      elseif over > 1 then
        local freed = list and list_at(KEYS[k], first[k] + over - 1) or (sunpack('>I7', values[k], (first[k] + over - 1) * 7 + 1))
        retry = min(freed + window - now, window)
      end
    end
    n = n + 1
    answer[n] = spack('>I3I6I6', max(0, limits[rule] - held), reset, retry)
  end
end

for k, ttl in pairs(changed) do call('SET', KEYS[k], values[k], 'PX', ttl) end
return table.concat(answer)
`

/** Logs of rules with a larger limit are lists. */
export const PACKED_LIMIT: number = 128

/**
 * Takes back what one take recorded, where another slot of a cluster refused the same request.
 *
 * KEYS: the logs. ARGV: the time that the take answered, then for each log its cost and form. The first stamps at or after that
 * time go: they are the request's own, or equal to them, or (after the server's clock stepped back) such as leave the
 * window earlier; so a log never forgets more than the request had added. Lists lose their stamps by value.
 */
export const REFUND_SCRIPT: string = `
local from = tonumber(ARGV[1])
for k, key in ipairs(KEYS) do
  local cost, list = tonumber(ARGV[2 * k]), ARGV[2 * k + 1] == '1'
  if list then
    local length = redis.call('LLEN', key)
    local low, high = 0, length
    while low < high do
      local middle = math.floor((low + high) / 2)
      if tonumber(redis.call('LINDEX', key, middle)) < from then low = middle + 1 else high = middle end
    end
    for _ = 1, math.min(cost, length - low) do redis.call('LREM', key, 1, redis.call('LINDEX', key, low)) end
  else
    local packed = redis.call('GET', key) or ''
    local low, high = 0, #packed / 7
    while low < high do
      local middle = math.floor((low + high) / 2)
      if struct.unpack('>I7', packed, middle * 7 + 1) < from then low = middle + 1 else high = middle end
    end
    local rest = string.sub(packed, 1, low * 7) .. string.sub(packed, (low + cost) * 7 + 1)
    if rest == '' then redis.call('DEL', key) else redis.call('SET', key, rest, 'KEEPTTL') end
  end
end
return 1
`

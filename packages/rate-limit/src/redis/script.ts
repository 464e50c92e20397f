/**
 * For scripts that find timestamps ahead of the server's clock: moves the timestamps of a list into the past. The
 * list is rotated once, a page at a time. For a long list, which would block Redis too long, all entries get the
 * newest timestamp instead. The caller must set the time to live of the key again.
 */
export const SET_LIST_BACK: string = `
local function set_list_back (key, length, microseconds)
  local function moved (stamp) return string.format('%.0f', math.max(0, tonumber(stamp) - microseconds)) end
  local same, page
  if length > 20000 then
    same, page = moved(redis.call('LINDEX', key, -1)), {}
    for i = 1, 1000 do page[i] = same end
    redis.call('DEL', key)
  end
  for left = length, 1, -1000 do
    local size = math.min(left, 1000)
    if not same then
      page = redis.call('LRANGE', key, 0, size - 1)
      redis.call('LTRIM', key, size, -1)
      for i = 1, size do page[i] = moved(page[i]) end
    end
    redis.call('RPUSH', key, unpack(page, 1, size))
  end
end
`

/** How far in the future the timestamps of a list may be, for a window in microseconds: the longest time of a lease. */
export const LEAD: string = 'local function lead_of (window) return math.min(500000, window / 10) end\n'

/**
 * Decides a batch of requests, each by all of its windows, and records the admitted ones, atomically.
 *
 * KEYS: every window that the batch uses, once. Arguments and reply are packed, because writing and parsing text would
 * cost more than the decision itself. All numbers are big-endian. Arguments use seven bits per byte, so they are
 * strings that ioredis writes in one piece together with the keys; buffers would be copied one argument after
 * another. The reply uses eight bits per byte.
 *
 * - ARGV[1], the rules: for each rule its limit (5 bytes), length in microseconds (7), whether its windows are lists
 *   (1), and limit (5) and length (7) of its burst, or zero.
 * - ARGV[2], the requests: for each request the number of its charges (2), then for each charge the index of its key
 *   (2), the index of its rule (2), and its cost (4). Indexes start at 1.
 * - Reply: Redis's time in microseconds (7), then for each request allowed (1), and for each charge remaining (3),
 *   resetUs (6) and retryUs (6), and the same for its burst. A later request of a batch sees what an earlier one took.
 *
 * A window is stored as one timestamp for each admitted unit, which makes it exact; counters and buckets are not. Small
 * windows are packed: seven bytes per timestamp in one string, which is read completely and appended to, and needs a
 * third of the memory of a sorted set. Beyond {@link PACKED_LIMIT} timestamps, copying the string would cost more than
 * it saves, so a list is used, of which only the ends and a few timestamps are read. Rewriting a string costs several
 * times as much as appending, so timestamps that have left the window stay at its front until they are a quarter of the
 * limit.
 *
 * A burst is a shorter window over the same units, so it reads the same record with a second search.
 *
 * - Time is that of Redis, so the clocks of the callers do not matter.
 * - Timestamps in lists are written with %.0f: Lua prints large numbers with 14 digits, and sixteen are needed.
 * - A timestamp is never older than the one before it: the search relies on the order.
 * - When the server's clock is set back, a window whose newest timestamp is in the future is moved back once, so that
 *   this timestamp becomes the present time. Its units are really older than that, so no unit leaves a window early,
 *   and no caller waits longer than a window.
 * - Timestamps of leases are in the future, by a tenth of the window or half a second at most. Lists hold leases, so
 *   timestamps in lists may be that far ahead.
 * - A refused request writes nothing else. When Redis is out of memory, it refuses the first write of a script, so the
 *   script writes nothing at all.
 * - A value that is not a window, because another program wrote it, is replaced: it must
 *   not fail the other requests of the batch.
 * - The time to live of a key is set to 1.25 times the length of the window when the first unit of each quarter of that
 *   length is added. So the key lives for at least one length after any other unit. One second is added, because expiry
 * is counted in
 *   milliseconds and must not be early.
 */
export const TAKE_SCRIPT: string = `${SET_LIST_BACK}${LEAD}
local call, spack, sunpack, sub, rep = redis.call, struct.pack, struct.unpack, string.sub, string.rep
local floor, byte = math.floor, string.byte
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local limits, windows, lists, spares, ttls, burst_limits, burst_windows = {}, {}, {}, {}, {}, {}, {}
local rules = ARGV[1]
local function five (a, b, c, d, e) return (((a * 128 + b) * 128 + c) * 128 + d) * 128 + e end
local function seven (a, b, ...) return (a * 128 + b) * 34359738368 + five(...) end
local function narrow (two) return two - floor(two / 256) * 128 end
local pos, count = 1, 0
while pos <= #rules do
  count = count + 1
  limits[count] = five(byte(rules, pos, pos + 4))
  windows[count] = seven(byte(rules, pos + 5, pos + 11))
  lists[count] = byte(rules, pos + 12) == 1
  burst_limits[count] = five(byte(rules, pos + 13, pos + 17))
  burst_windows[count] = seven(byte(rules, pos + 18, pos + 24))
  pos = pos + 25
  spares[count] = limits[count] > 32 and limits[count] / 4 or 8
  ttls[count] = floor(windows[count] * 1.25 / 1000) + 1000
end

local values = call('MGET', unpack(KEYS))
local lengths, first, live, stamps, newest, oldest, added = {}, {}, {}, {}, {}, {}, {}
local burst_first, burst_live, burst_oldest = {}, {}, {}
local packed_now = spack('>I7', now)

local function stamp_at (k, list, index)
  if list then return tonumber(call('LINDEX', KEYS[k], index)) or 0 end
  return (sunpack('>I7', values[k], index * 7 + 1))
end

-- Without memory for a write, a packed window is set back for this call alone.
local function set_back (k, rule, length, microseconds)
  if lists[rule] then
    set_list_back(KEYS[k], length, microseconds)
    call('PEXPIRE', KEYS[k], ttls[rule])
    return
  end
  local moved = {}
  for i = 1, length do moved[i] = spack('>I7', math.max(0, stamp_at(k, false, i - 1) - microseconds)) end
  values[k] = table.concat(moved)
  redis.pcall('SET', KEYS[k], values[k], 'PX', ttls[rule])
end

local function open (k, rule)
  local list, window = lists[rule], windows[rule]
  local length
  if list then
    length = redis.pcall('LLEN', KEYS[k])
    if type(length) == 'table' then
      length = 0
      call('DEL', KEYS[k])
    end
  else
    if not values[k] or #values[k] % 7 > 0 then values[k] = '' end
    length = #values[k] / 7
  end
  local low, head, last = 0, nil, nil
  if length > 0 then
    last = stamp_at(k, list, length - 1)
    local ahead = last - now - (list and lead_of(window) or 0)
    if ahead > 0 then
      set_back(k, rule, length, ahead)
      last = last - ahead
    end
    if last + window <= now then
      low = length
    else
      head = length == 1 and last or stamp_at(k, list, 0)
      if head + window <= now then
        local high = 2
        low = 1
        while high < length - 1 and stamp_at(k, list, high) + window <= now do low, high = high + 1, high * 2 end
        if high >= length then high = length - 1 end
        while low < high do
          local middle = floor((low + high) / 2)
          if stamp_at(k, list, middle) + window <= now then low = middle + 1 else high = middle end
        end
        head = stamp_at(k, list, low)
      end
    end
  end
  lengths[k], first[k], live[k], newest[k], oldest[k] = length, low, length - low, last, head
  stamps[k] = last and last > now and last or now
  return length - low
end

-- Few units are in the short window, so they are sought from the newest on.
local function open_burst (k, rule)
  local list, window = lists[rule], burst_windows[rule]
  local low, length = first[k], lengths[k]
  local high, step = length, 1
  while high > low do
    local before = high - step
    if before < low then before = low end
    if stamp_at(k, list, before) + window <= now then low = before + 1 break end
    high, step = before, step * 2
  end
  while low < high do
    local middle = floor((low + high) / 2)
    if stamp_at(k, list, middle) + window <= now then low = middle + 1 else high = middle end
  end
  -- What this batch has added to a packed window is not in its value yet.
  local held = live[k] + first[k] - high
  burst_first[k], burst_live[k] = high, held
  if held > 0 then burst_oldest[k] = high < length and stamp_at(k, list, high) or stamps[k] end
  return held
end

local function push (key, text, cost)
  if cost == 1 then return call('RPUSH', key, text) end
  local texts = {}
  for i = 1, math.min(cost, 1000) do texts[i] = text end
  for left = cost, 1, -1000 do call('RPUSH', key, unpack(texts, 1, math.min(left, 1000))) end
end

local function keep (k, rule)
  local before, stamp, quarter = newest[k], stamps[k], windows[rule] / 4
  if not before or before - before % quarter ~= stamp - stamp % quarter then call('PEXPIRE', KEYS[k], ttls[rule]) end
end

local requests = ARGV[2]
local answer, n = { packed_now }, 1
local ks, rs, cs, rule_of = {}, {}, {}, {}
pos = 1

local function state (k, list, limit, window, cost, held, begin, eldest)
  local reset, retry = 0, 0
  if held > 0 then
    reset = eldest + window - now
    local over = held + cost - limit
    if over == 1 then retry = reset
    elseif over > 1 then
      local index = begin + over - 1
      local freed = index < lengths[k] and stamp_at(k, list, index) or stamps[k]
      retry = freed + window - now
    end
  end
  local remaining = limit - held
  n = n + 1
  answer[n] = spack('>I3I6I6', remaining > 0 and remaining or 0, reset, retry)
end

while pos <= #requests do
  local more, charges = byte(requests, pos, pos + 1)
  local allowed = true
  charges, pos = more * 128 + charges, pos + 2
  for c = 1, charges do
    local k, rule, cost
    k, rule, cost, pos = sunpack('>HHI4', requests, pos)
    -- Small numbers are the same in seven bits a byte and in eight.
    if k > 127 then k = narrow(k) end
    if rule > 127 then rule = narrow(rule) end
    if cost > 127 then cost = narrow(floor(cost / 65536)) * 16384 + narrow(cost % 65536) end
    ks[c], rs[c], cs[c] = k, rule, cost
    if (live[k] or open(k, rule)) + cost > limits[rule] then allowed = false end
    if burst_limits[rule] > 0 and (burst_live[k] or open_burst(k, rule)) + cost > burst_limits[rule] then allowed = false end
  end
  n = n + 1
  answer[n] = allowed and '\\1' or '\\0'
  for c = 1, charges do
    local k, rule, cost = ks[c], rs[c], cs[c]
    local list = lists[rule]
    if allowed then
      if list then
        local key, text = KEYS[k], string.format('%.0f', stamps[k])
        if first[k] > 0 then call('LTRIM', key, first[k], -1) end
        push(key, text, cost)
        keep(k, rule)
        if burst_first[k] then burst_first[k] = burst_first[k] - first[k] end
        lengths[k], first[k], newest[k] = live[k] + cost, 0, stamps[k]
      else
        local packed = stamps[k] == now and packed_now or spack('>I7', stamps[k])
        if cost > 1 then packed = rep(packed, cost) end
        added[k] = added[k] and added[k] .. packed or packed
        rule_of[k] = rule
      end
      if live[k] == 0 then oldest[k] = stamps[k] end
      live[k] = live[k] + cost
      if burst_live[k] then
        if burst_live[k] == 0 then burst_oldest[k] = stamps[k] end
        burst_live[k] = burst_live[k] + cost
      end
    end
    state(k, list, limits[rule], windows[rule], cost, live[k], first[k], oldest[k])
    if burst_limits[rule] > 0 then
      local held, begin, eldest = burst_live[k], burst_first[k], burst_oldest[k]
      state(k, list, burst_limits[rule], burst_windows[rule], cost, held, begin, eldest)
    end
  end
end

for k, packed in pairs(added) do
  local rule, gone = rule_of[k], first[k]
  if gone == lengths[k] or gone >= spares[rule] then
    call('SET', KEYS[k], sub(values[k], gone * 7 + 1) .. packed, 'PX', ttls[rule])
  else
    call('APPEND', KEYS[k], packed)
    keep(k, rule)
  end
end
return table.concat(answer)
`

/** The largest limit whose windows are packed; windows of rules with a larger limit are lists. */
export const PACKED_LIMIT: number = 128

/**
 * Removes the units that one take recorded: another slot of a cluster refused the same request, or a caller refunds it.
 *
 * KEYS: the windows. ARGV: the time that the take returned, then for each window its cost, format and length in
 * microseconds. A window is left alone if its length has passed since: the units of the request may be gone already,
 * and units of other requests would be removed instead. Otherwise the first timestamps at or after that time are
 * removed. They belong to the request, or are equal to its own, or (after the server's clock was set back) leave the
 * window earlier. So a window never loses more units than the request had added. Lists remove timestamps by value.
 */
export const REFUND_SCRIPT: string = `
local from = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
for k, key in ipairs(KEYS) do
  local cost, list, window = tonumber(ARGV[3 * k - 1]), ARGV[3 * k] == '1', tonumber(ARGV[3 * k + 1])
  if from + window <= now then
    -- It is over by itself.
  elseif list then
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

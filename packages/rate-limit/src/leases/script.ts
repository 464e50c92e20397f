import { LEAD, SET_LIST_BACK } from '../redis/script.js'

/**
 * Leases units to a process and removes the unspent units of its last lease, atomically.
 *
 * KEYS: a window that is a list. ARGV: limit, length of the window and of the lease (microseconds), units wanted, the
 * largest part of what is left that may be leased, then the timestamp and number of units that were certainly not
 * spent. Reply: units granted, their timestamp, and microseconds until the oldest timestamp leaves the window.
 *
 * The timestamp of the units is the end of the lease, so no unit can be spent after its timestamp: whenever a window
 * contains a spent unit, the list still held it at every admission in that window. Units added during a lease get a
 * timestamp that is as late, because timestamps never decrease; they stay longer than necessary, by the length of a
 * lease at most. If timestamps lie further in the future, the server's clock was set back: see the take script.
 */
export const LEASE_SCRIPT: string = `${SET_LIST_BACK}${LEAD}
local call, key = redis.call, KEYS[1]
local limit, window, lease, want, share = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
if ARGV[7] ~= '0' then call('LREM', key, -tonumber(ARGV[7]), ARGV[6]) end
if want == 0 then return { 0, '0', 0 } end

local length = call('LLEN', key)
local ahead = length > 0 and tonumber(call('LINDEX', key, -1)) - now - lead_of(window) or 0
if ahead > 0 then set_list_back(key, length, ahead) end
local low, high = 0, length
while low < high do
  local middle = math.floor((low + high) / 2)
  if tonumber(call('LINDEX', key, middle)) + window <= now then low = middle + 1 else high = middle end
end
local units = math.floor(math.min(want, (limit - length + low) * share))
if units < 2 then return { 0, '0', 0 } end

local stamp = now + lease
local oldest = stamp
if low < length then
  stamp = math.max(stamp, tonumber(call('LINDEX', key, -1)))
  oldest = tonumber(call('LINDEX', key, low))
end
if low > 0 then call('LTRIM', key, low, -1) end
local text = string.format('%.0f', stamp)
local texts = {}
for i = 1, math.min(units, 1000) do texts[i] = text end
for left = units, 1, -1000 do call('RPUSH', key, unpack(texts, 1, math.min(left, 1000))) end
call('PEXPIRE', key, math.max(call('PTTL', key), math.floor((window * 1.25 + lease) / 1000) + 1000))
return { units, text, oldest + window - now }
`

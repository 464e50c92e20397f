/*
 * Atomic operations on families in Redis. KEYS[1] is the key of one family; ARGV[1] is the base of every key.
 *
 *   <base>:<sid>         hash: current, data, ends, owner; previous and rotated after the first use, ended after
 *                        its end
 *   <base>:of:<owner>    the sids of one owner, ordered by last use
 *
 * Times come from Redis, so that replicas with different clocks agree on the grace period. Times in milliseconds fit
 * the 14 digits with which Lua writes a number.
 */
const COMMON = `
local key, base = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function at (sid) return base .. ':' .. sid end
local function of (owner) return base .. ':of:' .. owner end

-- The score of what is used last: later than all others, also when the clock was set back.
local function latest (owner)
  local last = redis.call('ZREVRANGE', of(owner), 0, 0, 'WITHSCORES')[2]
  return string.format('%.0f', math.max(now, (tonumber(last) or 0) + 1))
end
`

/**
 * Further ARGV: sid, hash of the secret, data, idle and absolute lifetime in milliseconds, owner,
 * maximum families per owner, latest end or nothing.
 */
export const CREATE: string = `${COMMON}
local sid, current, data, owner, max = ARGV[2], ARGV[3], ARGV[4], ARGV[7], tonumber(ARGV[8])
local ends = math.min(now + ARGV[6], tonumber(ARGV[9]) or math.huge)
local expires = math.min(now + ARGV[5], ends)
local reply = { expires }

local mine = redis.call('ZRANGE', of(owner), 0, -1)
if #mine + 1 > max then
  local alive = {}
  for _, one in ipairs(mine) do
    if redis.call('EXISTS', at(one)) == 1 then alive[#alive + 1] = one else redis.call('ZREM', of(owner), one) end
  end
  for i = 1, #alive + 1 - max do
    local given, ended = unpack(redis.call('HMGET', at(alive[i]), 'data', 'ended'))
    redis.call('DEL', at(alive[i]))
    redis.call('ZREM', of(owner), alive[i])
    if not ended then
      reply[#reply + 1] = alive[i]
      reply[#reply + 1] = given
    end
  end
end

redis.call('HSET', key, 'current', current, 'data', data, 'ends', ends, 'owner', owner)
redis.call('PEXPIREAT', key, expires)
redis.call('ZADD', of(owner), latest(owner), sid)
if redis.call('PTTL', of(owner)) < ends - now then redis.call('PEXPIREAT', of(owner), ends) end
return reply
`

/**
 * Further ARGV: sid, hashes of the presented secret and of its successor, grace period and idle
 * lifetime in milliseconds.
 */
export const ROTATE: string = `${COMMON}
local sid, presented, successor = ARGV[2], ARGV[3], ARGV[4]
local fields = { 'current', 'previous', 'rotated', 'ends', 'ended', 'data', 'owner' }
local current, previous, rotated, ends, ended, data, owner = unpack(redis.call('HMGET', key, unpack(fields)))
if not current then return false end
if not ended and presented == current then
  local expires = math.min(now + ARGV[6], tonumber(ends))
  redis.call('HSET', key, 'current', successor, 'previous', current, 'rotated', now)
  redis.call('PEXPIREAT', key, expires)
  if owner then redis.call('ZADD', of(owner), 'XX', latest(owner), sid) end
  return { 'rotated', data, expires }
end
local expires = now + redis.call('PTTL', key)
if not ended and presented == previous and successor == current and now - rotated < tonumber(ARGV[5]) then
  return { 'replayed', data, expires }
end
redis.call('HSETNX', key, 'ended', 'reused')
return { redis.call('HGET', key, 'ended'), data, expires }
`

export const READ: string = `${COMMON}
local current, ended, data = unpack(redis.call('HMGET', key, 'current', 'ended', 'data'))
if not current then return false end
return { data, current, ended or '', now + redis.call('PTTL', key) }
`

export const END: string = `
local data = redis.call('HGET', KEYS[1], 'data')
if data then redis.call('HSETNX', KEYS[1], 'ended', 'revoked') end
return data
`

/** Further ARGV: sid. */
export const REMOVE: string = `${COMMON}
local owner = redis.call('HGET', key, 'owner')
if owner then redis.call('ZREM', of(owner), ARGV[2]) end
if redis.call('DEL', key) == 1 then return 1 end
return false
`

/*
 * Atomic session operations in Redis. ARGV[1] is the base of every key; KEYS[1] is the index of all sessions.
 *
 *   <base>:<key>         hash: kept, owner, created, expires, used, idle; expires when the session ends
 *   <base>:of:<owner>    keys of one principal's sessions; score: when the session ends if it is not used
 *   <base>:all           the same for all principals
 */
const COMMON = `
local base = ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function at (key) return base .. ':' .. key end
local function of (owner) return base .. ':of:' .. owner end

local function index (name, key, ends, expires)
  redis.call('ZADD', name, string.format('%.0f', ends), key)
  if redis.call('PTTL', name) < expires - now then redis.call('PEXPIREAT', name, string.format('%.0f', expires)) end
end

local function keep (key, owner, used, idle, expires)
  local ends = math.min(used + idle, expires)
  redis.call('HSET', at(key), 'used', string.format('%.0f', used))
  redis.call('PEXPIREAT', at(key), string.format('%.0f', ends))
  index(of(owner), key, ends, expires)
  index(KEYS[1], key, ends, expires)
end

local function read (key)
  local row = redis.call('HMGET', at(key), 'kept', 'created', 'expires', 'used')
  if not row[1] then return false end
  row[5] = redis.call('PTTL', at(key))
  return row
end

local function drop (key)
  local owner = redis.call('HGET', at(key), 'owner')
  if not owner then return false end
  redis.call('DEL', at(key))
  redis.call('ZREM', of(owner), key)
  redis.call('ZREM', KEYS[1], key)
  return true
end

-- Sessions that ended by themselves are still in the indexes; a hundred at a time, so that no step is long.
local function prune (name)
  local over = redis.call('ZRANGEBYSCORE', name, '-inf', string.format('%.0f', now), 'LIMIT', 0, 100)
  if #over > 0 then redis.call('ZREM', name, unpack(over)) end
  return #over
end
`

/**
 * ARGV: key, owner, stored JSON, idle limit, absolute limit, latest end or '', maximum sessions per
 * principal, replaced key or '', 1 when the replaced session must exist.
 */
export const ADD: string =
  COMMON +
  `
local key, owner, kept = ARGV[2], ARGV[3], ARGV[4]
local expires = math.min(now + ARGV[6], tonumber(ARGV[7]) or math.huge)
if expires <= now then return 'expired' end
if ARGV[9] ~= '' and not drop(ARGV[9]) and ARGV[10] == '1' then return 'gone' end

prune(KEYS[1])
while prune(of(owner)) == 100 do end
local mine = redis.call('ZRANGE', of(owner), 0, -1)
local surplus = #mine + 1 - ARGV[8]
if surplus > 0 then
  local used = {}
  for _, one in ipairs(mine) do used[one] = tonumber(redis.call('HGET', at(one), 'used') or 0) end
  table.sort(mine, function (a, b) return used[a] < used[b] end)
  for i = 1, surplus do
    if not drop(mine[i]) then redis.call('ZREM', of(owner), mine[i]) end
  end
end

redis.call('HSET', at(key), 'kept', kept, 'owner', owner, 'idle', ARGV[5])
redis.call('HSET', at(key), 'created', string.format('%.0f', now), 'expires', string.format('%.0f', expires))
keep(key, owner, now, tonumber(ARGV[5]), expires)
return string.format('%.0f', expires)
`

/** ARGV: keys. Returns one row for each. */
export const FIND: string = COMMON + `
local rows = {}
for i = 2, #ARGV do rows[i - 1] = read(ARGV[i]) end
return rows
`

/** ARGV: key. Like FIND, but counts as use. */
export const USE: string = COMMON + `
local key = ARGV[2]
local owner, used, idle, expires = unpack(redis.call('HMGET', at(key), 'owner', 'used', 'idle', 'expires'))
if not owner then return { false } end
keep(key, owner, math.max(now, tonumber(used)), tonumber(idle), tonumber(expires))
return { read(key) }
`

/** ARGV: key. Returns the row of the session that was ended. */
export const REMOVE: string = COMMON + `
local row = read(ARGV[2])
drop(ARGV[2])
return row
`

/** ARGV: owner. */
export const REMOVE_ALL: string = COMMON + `
local ended = 0
for _, key in ipairs(redis.call('ZRANGE', of(ARGV[2]), 0, -1)) do
  if drop(key) then ended = ended + 1 end
end
redis.call('DEL', of(ARGV[2]))
return ended
`

import type { RefreshLimits, RefreshRotation, RefreshStore } from './refresh-store.js'
import type { RedisAuthStore } from './store-options.js'
import { storeScript } from './store-script.js'

/** Time is Redis's own: replicas whose clocks differ agree on what is in grace. Milliseconds fit the 14 digits that Lua writes of a number. */
const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local key = KEYS[1]
`

/** ARGV: hash of the secret, data, idle and absolute life in milliseconds, when it must end at the latest (or nothing). */
const CREATE = `${NOW}
local ends = math.min(now + ARGV[4], tonumber(ARGV[5]) or math.huge)
local expires = math.min(now + ARGV[3], ends)
redis.call('HSET', key, 'current', ARGV[1], 'data', ARGV[2], 'ends', ends)
redis.call('PEXPIREAT', key, expires)
return expires
`

/** ARGV: hashes of the presented secret and of its successor, grace and idle life in milliseconds. */
const ROTATE = `${NOW}
local current, previous, rotated, ends, ended, data = unpack(redis.call('HMGET', key, 'current', 'previous', 'rotated', 'ends', 'ended', 'data'))
if not current then return false end
if not ended and ARGV[1] == current then
  local expires = math.min(now + ARGV[4], tonumber(ends))
  redis.call('HSET', key, 'current', ARGV[2], 'previous', current, 'rotated', now)
  redis.call('PEXPIREAT', key, expires)
  return { 'rotated', data, expires }
end
local expires = now + redis.call('PTTL', key)
if not ended and ARGV[1] == previous and ARGV[2] == current and now - rotated < tonumber(ARGV[3]) then
  return { 'replayed', data, expires }
end
redis.call('HSETNX', key, 'ended', 'reused')
return { redis.call('HGET', key, 'ended'), data, expires }
`

const READ = `${NOW}
local current, ended, data = unpack(redis.call('HMGET', key, 'current', 'ended', 'data'))
if not current then return false end
return { data, current, ended or '', now + redis.call('PTTL', key) }
`

const END = `
local data = redis.call('HGET', KEYS[1], 'data')
if data then redis.call('HSETNX', KEYS[1], 'ended', 'revoked') end
return data
`

const REMOVE = 'return redis.call(\'DEL\', KEYS[1])'

/** Keeps families in Redis, one key each, that goes with its family. */
export function createRedisRefreshStore ({ redis, prefix }: Required<RedisAuthStore>, limits: RefreshLimits): RefreshStore {
  const create = storeScript(redis, CREATE)
  const rotate = storeScript(redis, ROTATE)
  const read = storeScript(redis, READ)
  const end = storeScript(redis, END)
  const remove = storeScript(redis, REMOVE)
  const keysOf = (sid: string): readonly string[] => [`${prefix}:refresh:${sid}`]
  const idleMs = limits.idleSeconds * 1000

  return {
    async create (sid, current, data, notAfter) {
      return await create(keysOf(sid), [current, data, idleMs, limits.absoluteSeconds * 1000, notAfter ?? '']) as number
    },
    async rotate (sid, presented, successor) {
      const reply = await rotate(keysOf(sid), [presented, successor, limits.graceSeconds * 1000, idleMs]) as [RefreshRotation['outcome'], string, number] | null
      return reply === null ? null : { outcome: reply[0], data: reply[1], expiresAt: reply[2] }
    },
    async read (sid) {
      const reply = await read(keysOf(sid), []) as [string, string, string, number] | null
      return reply === null ? null : { data: reply[0], current: reply[1], isEnded: reply[2] !== '', expiresAt: reply[3] }
    },
    end: async sid => await end(keysOf(sid), []) as string | null,
    remove: async sid => await remove(keysOf(sid), []) === 1
  }
}

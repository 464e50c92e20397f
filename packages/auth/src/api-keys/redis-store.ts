import { checkOptions, type OptionTable } from '@marty/core'
import type { RedisClient } from '@marty/redis'
import { ApiKeyStoreInvalid } from '../errors.js'
import { SCOPE } from '../option-scope.js'
import { PREFIX, REDIS } from '../store-options.js'
import { KEY_ID } from './format.js'
import { isApiKeyRecord, type ApiKeyRecord, type ApiKeyStore } from './store.js'
import { storeScript, type StoreScript } from '../store-script.js'

export interface RedisApiKeyStoreOptions {
  readonly redis: RedisClient
  /** Prefix of every Redis key: 1 to 64 letters, digits, `_`, `:`, `.` or `-`. @default 'marty:keys' */
  readonly prefix?: string
}

/** Records older than this are read again: a key revoked on another replica is refused within a second. */
const FRESH_MS = 1_000
/** How long records stay in use while Redis does not respond. */
const STALE_MS = 60_000
const MAX_CACHED = 10_000
/** How long records are kept after they have ended, for lists and inquiries. */
const KEPT_MS = 30 * 86_400_000

interface Cached {
  /** Null when the key does not exist. */
  readonly record: ApiKeyRecord | null
  readonly readAt: number
}

/**
 * KEYS: record, order, counter, used. ARGV: key id, record, expected version or '', time to live in
 * milliseconds.
 */
const PUT = `
local current = redis.call('GET', KEYS[1])
if ARGV[3] == '' then
  if current then return 0 end
elseif not current or cjson.decode(current).version ~= tonumber(ARGV[3]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
if not current then redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[3]), ARGV[1]) end
for i = 2, 4 do
  local left = redis.call('PTTL', KEYS[i])
  if left ~= -2 and left < tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[i], ARGV[4]) end
end
return 1
`

/** Returns ids and records in order of creation, and removes expired ones from the order. */
const LIST = `
local records = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local record = redis.call('GET', KEYS[1] .. id)
  if record then
    table.insert(records, id)
    table.insert(records, record)
  else
    redis.call('ZREM', KEYS[2], id)
  end
end
return records
`

const DELETE = `
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
return redis.call('DEL', KEYS[1])
`

/**
 * ARGV: key ids with their times. Records only keys that exist. The hash of times lives as long as the
 * list of keys.
 */
const TOUCH = `
for i = 1, #ARGV, 2 do
  if redis.call('ZSCORE', KEYS[2], ARGV[i]) then redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1]) end
end
local left = redis.call('PTTL', KEYS[2])
if left > 0 then redis.call('PEXPIRE', KEYS[4], left) end
return 1
`

const OPTIONS: OptionTable<RedisApiKeyStoreOptions> = {
  redis: REDIS,
  prefix: { ...PREFIX, default: 'marty:keys', about: 'Prefix of every Redis key.' }
}

const LAST_USED = 'return redis.call(\'HGETALL\', KEYS[4])'

/**
 * Stores API keys in Redis, shared by all replicas. Every function rejects with
 * `MARTY_AUTH_STORE_UNAVAILABLE` when Redis does not respond; a record that was already read stays
 * usable until it is a minute old. A damaged record is an error (`MARTY_AUTH_KEY_STORE_INVALID`) that
 * names its key.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 */
export function createRedisApiKeyStore (options: RedisApiKeyStoreOptions): ApiKeyStore {
  const { redis, prefix } = checkOptions(OPTIONS, options, { ...SCOPE, subject: 'createRedisApiKeyStore' })
  const [put, list, remove, touch, lastUsed, read] = [
    PUT, LIST, DELETE, TOUCH, LAST_USED, "return redis.call('GET', KEYS[1])"
  ].map(lua => storeScript(redis, lua))
  const keysOf = (keyId: string): readonly string[] => [
    `{${prefix}}:key:${keyId}`,
    `{${prefix}}:order`,
    `{${prefix}}:counter`,
    `{${prefix}}:used`
  ]
  const present = new Map<string, Cached>()
  const absent = new Map<string, Cached>()

  const forget = (keyId: string): void => {
    present.delete(keyId)
    absent.delete(keyId)
  }

  const remember = (keyId: string, record: ApiKeyRecord | null, readAt: number): void => {
    forget(keyId)
    // Cached separately, so that invented key ids do not displace keys that are in use.
    const cached = record === null ? absent : present
    if (cached.size >= MAX_CACHED) cached.delete(cached.keys().next().value!)
    cached.set(keyId, { record, readAt })
  }

  const fetch = async (keyId: string, known: Cached | undefined): Promise<ApiKeyRecord | null> => {
    const readAt = performance.now()
    let text: string | null
    try {
      text = await read!(keysOf(keyId), []) as string | null
    } catch (error) {
      if (known !== undefined && performance.now() - known.readAt < STALE_MS) return known.record
      throw error
    }
    const record = text === null ? null : parse(keyId, text)
    remember(keyId, record, readAt)
    return record
  }

  /**
   * Changes a key and drops it from the cache before and after, because it may have been read again
   * during the change.
   */
  const change = async (keyId: string, script: StoreScript, args: ReadonlyArray<string | number>): Promise<boolean> => {
    forget(keyId)
    try {
      return await script(keysOf(keyId), [keyId, ...args]) === 1
    } finally {
      forget(keyId)
    }
  }

  return {
    get (keyId) {
      const known = present.get(keyId) ?? absent.get(keyId)
      return known !== undefined && performance.now() - known.readAt < FRESH_MS ? known.record : fetch(keyId, known)
    },
    async list () {
      const pairs = await list!(keysOf(''), []) as string[]
      const records: ApiKeyRecord[] = []
      for (let i = 0; i < pairs.length; i += 2) records.push(parse(pairs[i]!, pairs[i + 1]!))
      return records
    },
    async put (record, expectedVersion) {
      const goesInMs = Math.max(record.expiresAt - Date.now(), 0) + KEPT_MS
      return await change(record.keyId, put!, [JSON.stringify(record), expectedVersion ?? '', goesInMs])
    },
    delete: async keyId => await change(keyId, remove!, []),
    async touch (used) {
      await touch!(keysOf(''), [...used].flatMap(([keyId, time]) => [keyId, time]))
    },
    async lastUsed () {
      const pairs = await lastUsed!(keysOf(''), []) as string[]
      const used = new Map<string, number>()
      for (let i = 0; i < pairs.length; i += 2) if (KEY_ID.test(pairs[i]!)) used.set(pairs[i]!, Number(pairs[i + 1]))
      return used
    }
  }
}

function parse (keyId: string, text: string): ApiKeyRecord {
  let record: unknown = null
  try {
    record = JSON.parse(text)
  } catch {
    // Do not keep the parser's message: it quotes the record.
  }
  if (!isApiKeyRecord(record) || record.keyId !== keyId) {
    throw new ApiKeyStoreInvalid(`The record of the API key ${keyId} in Redis is damaged: restore it, or remove it`)
  }
  return Object.freeze(record)
}

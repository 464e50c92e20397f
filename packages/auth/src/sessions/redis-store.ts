import type { Principal } from '@marty/core'
import { createHash } from 'node:crypto'
import { createSessionCache } from './cache.js'
import {
  principalOf, type NotAdded, type SessionLimits, type SessionOwner, type SessionRecord, type SessionRecords
} from './records.js'
import { ADD, FIND, REMOVE, REMOVE_ALL, USE } from './redis-scripts.js'
import type { RedisAuthStore } from '../store-options.js'
import { storeScript, type StoreScript } from '../store-script.js'

/**
 * How long a record read from Redis is used without reading it again. A sign-out on another replica
 * takes effect at most this much later.
 */
const FRESH_MS = 1_000

/**
 * The part of the idle limit during which use is not reported again. A session may end early by at most
 * this part.
 */
const UNREPORTED_SHARE = 1 / 4

/** How many sessions one script call reads, so that a long list does not block Redis. */
const PAGE = 100

/**
 * A session as the scripts return it: the stored JSON, times of creation, end and last use, and the
 * time left.
 */
type Row = [kept: string, createdAt: string, expiresAt: string, usedAt: string, leftMs: number]

interface StoredData {
  readonly source: Principal
  /** Missing in records that earlier versions stored. */
  readonly signedInAt?: number
  readonly address: string | null
  readonly userAgent: string | null
}

/**
 * Stores sessions in Redis, shared by all replicas; times are those of the Redis server. All keys have
 * the same hash tag, so that each step is a single script in a cluster too. Each key expires by itself.
 */
export function createRedisSessionRecords (
  { redis, prefix }: Required<RedisAuthStore>,
  { idleMs, absoluteMs, maxPerPrincipal }: SessionLimits
): SessionRecords {
  const base = `{${prefix}}:session`
  const allKey = `${base}:all`
  const script = (lua: string): ((args: ReadonlyArray<string | number>) => Promise<unknown>) => {
    const run: StoreScript = storeScript(redis, lua)
    return async args => await run([allKey], [base, ...args])
  }
  const [add, find, use, remove, removeAll] = [
    script(ADD),
    script(FIND),
    script(USE),
    script(REMOVE),
    script(REMOVE_ALL)
  ]
  const keysOf = storeScript(redis, "return redis.call('ZRANGE', KEYS[1], 0, -1)")

  const cache = createSessionCache(FRESH_MS, Math.min(FRESH_MS, idleMs * UNREPORTED_SHARE), async (key, peek) => {
    const [row] = (await (peek ? find : use)([key])) as Array<Row | null>
    return row === null || row === undefined ? null : { record: recordOf(key, row), leftMs: row[4] }
  })

  return {
    async add ({ key, source, signedInAt, notAfter, address, userAgent, replaces, mustReplace }) {
      const kept: StoredData = { source, signedInAt, address, userAgent }
      const step = async (): Promise<unknown> =>
        await add([
          key,
          ownerOf(source),
          JSON.stringify(kept),
          idleMs,
          absoluteMs,
          notAfter ?? '',
          maxPerPrincipal,
          replaces ?? '',
          mustReplace ? 1 : 0
        ])
      const answer = (await (replaces === null ? step() : cache.forget(replaces, step))) as string
      return answer === 'gone' || answer === 'expired' ? (answer satisfies NotAdded) : Number(answer)
    },
    find: cache.find,
    async remove (key) {
      const row = (await cache.forget(key, async () => await remove([key]))) as Row | null
      return row === null ? null : recordOf(key, row)
    },
    removeAll: async owner => (await cache.forget(null, async () => await removeAll([ownerOf(owner)]))) as number,
    async list (owner) {
      const keys = (await keysOf([owner === null ? allKey : `${base}:of:${ownerOf(owner)}`], [])) as string[]
      const records: SessionRecord[] = []
      for (let at = 0; at < keys.length; at += PAGE) {
        const page = keys.slice(at, at + PAGE)
        const rows = (await find(page)) as Array<Row | null>
        for (const [index, row] of rows.entries()) if (row !== null) records.push(recordOf(page[index]!, row))
      }
      return records
    }
  }
}

function recordOf (key: string, [kept, createdAt, expiresAt, usedAt]: Row): SessionRecord {
  const stored = JSON.parse(kept) as StoredData
  const { source, signedInAt = Math.floor(Number(createdAt) / 1000), address, userAgent } = stored
  Object.freeze(source)
  return {
    key,
    source,
    principal: principalOf(key, source, Number(expiresAt)),
    signedInAt,
    createdAt: Number(createdAt),
    usedAt: Number(usedAt),
    expiresAt: Number(expiresAt),
    address,
    userAgent
  }
}

/** Hashed, because principal ids are untrusted input: they must not determine a key or its length. */
function ownerOf ({ kind, id }: SessionOwner): string {
  return createHash('sha256').update(`${kind}:${id}`).digest('base64url')
}

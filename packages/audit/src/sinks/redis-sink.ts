import { redisScript, type ScriptClient } from '@marty/redis/script'
import { GENESIS, openRecord, type ChainHead } from '../chain.js'
import { AuditFileInvalid, AuditStreamTaken, AuditUnavailable } from '../errors.js'
import { isOrderlyEnd } from '../own-records.js'
import type { AuditSink } from './sink.js'

export interface RedisSinkOptions {
  /** A connected client such as ioredis, with a command timeout. The sink never closes it. */
  readonly redis: ScriptClient
  /** Key of the stream. A chain has one writer: give each replica a stream of its own. */
  readonly stream: string
  /** `sync`: an event is in Redis before it is acknowledged. `async`: events are batched. @default 'sync' */
  readonly mode?: 'sync' | 'async'
  /** About how many records the stream keeps; older ones are dropped. @default 100000 */
  readonly maxRecords?: number
  /** The stream expires when nothing has been written to it for this long. @default 31536000 (365 days) */
  readonly ttlSeconds?: number
}

/** Maximum number of consecutive writes without a reply whose ends are remembered. */
const MAX_IN_DOUBT = 100

/** Returns the last line of the stream, or nil. */
const LAST = redisScript(`
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
return last[1] and last[1][2][2]
`)

/**
 * Appends lines if the stream still ends with the hash that they follow; returns 0 when it does not. A line ends with
 * its hash, a quote and a brace.
 */
const APPEND = redisScript(`
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local hash = last[1] and string.sub(last[1][2][2], -66, -3) or ARGV[2]
if hash ~= ARGV[1] then return 0 end
for i = 5, #ARGV do redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'record', ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
`)

/** Appends to a Redis stream, one entry with the field `record` per line. */
export function createRedisSink ({ redis, stream, maxRecords, ttlSeconds }: Required<RedisSinkOptions>): AuditSink {
  const ttlMs = Math.ceil(ttlSeconds * 1000)
  /**
   * Hashes that the stream may end with if no other process has written to it since it was first read; empty before
   * that. There may be several, because a command without a reply may still be executed, even after later ones.
   */
  let ours: string[] = []

  return {
    async resume () {
      const line = await available(LAST(redis, [stream], []))
      const last = typeof line === 'string' ? openRecord(line) : null
      if (last === null && line !== null) {
        throw new AuditFileInvalid(
          `The Redis stream "${stream}" does not end with an audit record. Give the audit log a stream of its own`
        )
      }
      const head = last?.head ?? GENESIS
      if (ours.length > 0 && !ours.includes(head.hash)) throw new AuditStreamTaken(taken(stream))
      ours = [...ours.slice(-MAX_IN_DOUBT), head.hash]
      return { head, torn: Buffer.alloc(0), orderly: last === null || isOrderlyEnd(last.record) }
    },
    async write (lines, from: ChainHead, to: ChainHead) {
      ours = [...ours.slice(-MAX_IN_DOUBT), to.hash]
      const written = await available(
        APPEND(redis, [stream], [from.hash, GENESIS.hash, maxRecords, ttlMs, ...lines.slice(0, -1).split('\n')])
      )
      if (written !== 1) throw new AuditStreamTaken(taken(stream))
      ours = [to.hash]
    }
  }
}

/** Waits for a reply of Redis; rejects with `MARTY_AUDIT_UNAVAILABLE` when there is none. */
async function available (reply: Promise<unknown>): Promise<unknown> {
  try {
    return await reply
  } catch (cause) {
    throw new AuditUnavailable({ message: 'Redis could not read or write the audit log', cause })
  }
}

function taken (stream: string): string {
  return `Another process writes to the Redis stream "${stream}": a chain has one writer. Give each replica a ` +
    'stream of its own; this one writes no more until it is started again'
}

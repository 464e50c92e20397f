import { randomBytes } from 'node:crypto'
import { redisScript, type ScriptClient } from '@marty/redis'
import { DEFAULT_PREFIX } from '../redis/key.js'

export interface InstanceCountOptions {
  readonly redis: ScriptClient
  /** Instances of one prefix share their limits. @default 'marty:limit' */
  readonly prefix?: string
  /** Called when counting fails, once until it works again. */
  readonly onFailure?: (error: unknown) => void
}

/** How many instances share a Redis and a prefix: each sends it a heartbeat, and learns the number from the answer. */
export interface InstanceCount {
  /** The largest number of the last heartbeats that were answered. Infinity before the first one: nothing is known. */
  known (): number
  /** Sends the first heartbeat now. */
  start (): void
  /** Leaves the others, which know it with their next heartbeats. */
  close (): Promise<void>
}

const BEAT_EVERY_MS = 2_000

/** Instances that start together have not all been there for each other's first heartbeat. */
const SECOND_BEAT_MS = 200

/** An instance that was not heard of for this long is gone. */
const GONE_AFTER_MS = 10_000

/** A number that falls is believed when it has stayed low for as long: Redis may have lost its data, or its clock moved. */
const BELIEVED_BEATS: number = GONE_AFTER_MS / BEAT_EVERY_MS

/**
 * KEYS: the instances, each with the time of its last heartbeat. ARGV: the instance, and after how many milliseconds one is
 * gone. Answer: how many there are. Times ahead are left by a clock that was set back: whoever lives will be back.
 */
const BEAT_SCRIPT = `
local time = redis.call('TIME')
local now, gone = math.floor(tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000), tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - gone)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')
redis.call('PEXPIRE', KEYS[1], gone)
return redis.call('ZCARD', KEYS[1])
`

const beat = redisScript(BEAT_SCRIPT)
const leave = redisScript("return redis.call('ZREM', KEYS[1], ARGV[1])")

/** Counts this instance among those that share a Redis and a prefix. Its timer keeps no process alive. */
export function createInstanceCount ({
  redis,
  prefix = DEFAULT_PREFIX,
  onFailure
}: InstanceCountOptions): InstanceCount {
  const keys = [`{${prefix}}:#instances`]
  const id = randomBytes(12).toString('base64url')
  let heard: number[] = []
  let isFailing = false
  let isClosed = false
  let timer: NodeJS.Timeout | undefined
  let beating: Promise<void> = Promise.resolve()

  async function send (): Promise<void> {
    try {
      heard = [...heard, Number(await beat(redis, keys, [id, GONE_AFTER_MS]))].slice(-BELIEVED_BEATS)
      isFailing = false
    } catch (error) {
      if (!isFailing) onFailure?.(error)
      isFailing = true
    }
    if (!isClosed) timer = setTimeout(start, heard.length === 1 ? SECOND_BEAT_MS : BEAT_EVERY_MS).unref()
  }

  function start (): void {
    beating = send()
  }

  return {
    known: () => (heard.length === 0 ? Infinity : Math.max(...heard)),
    start,
    async close () {
      isClosed = true
      clearTimeout(timer)
      await beating
      await leave(redis, keys, [id]).catch(() => {})
    }
  }
}

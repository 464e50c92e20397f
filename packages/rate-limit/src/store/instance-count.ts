import { randomBytes } from 'node:crypto'
import { redisScript, type ScriptClient } from '@marty/redis/script'
import { DEFAULT_PREFIX } from '../redis/key.js'

export interface InstanceCountOptions {
  readonly redis: ScriptClient
  /** Instances of one prefix share their limits. @default 'marty:limit' */
  readonly prefix?: string
  /** Called when counting fails; then not again until it has worked. */
  readonly onFailure?: (error: unknown) => void
}

/**
 * Counts the instances that share a Redis and a prefix: each sends heartbeats to Redis
 * and receives the number in reply.
 */
export interface InstanceCount {
  /**
   * The largest number that the last answered heartbeats returned. Infinity before the
   * first one: the number is unknown.
   */
  current (): number
  /** Sends the first heartbeat immediately. */
  start (): void
  /** Removes this instance. The others learn of it with their next heartbeats. */
  close (): Promise<void>
}

const BEAT_EVERY_MS = 2_000

/**
 * Time until the second heartbeat. It is short, because instances that start together
 * miss each other in the first one.
 */
const SECOND_BEAT_MS = 200

/** An instance without a heartbeat for this long no longer counts. */
const GONE_AFTER_MS = 10_000

/**
 * A lower number is used only after it has stayed low for that time: Redis may have
 * lost its data, or its clock may have moved.
 */
const BELIEVED_BEATS: number = GONE_AFTER_MS / BEAT_EVERY_MS

/**
 * KEYS: the sorted set of instances, scored by the time of their last heartbeat. ARGV: this instance, and after how
 * many milliseconds an instance expires. Reply: the number of instances. Times in the future come from a clock that
 * was set back; they are removed, and live instances return with their next heartbeat.
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

/** Counts this instance among those that share a Redis and a prefix. Its timer does not keep the process alive. */
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
    current: () => (heard.length === 0 ? Infinity : Math.max(...heard)),
    start,
    async close () {
      isClosed = true
      clearTimeout(timer)
      await beating
      await leave(redis, keys, [id]).catch(() => {})
    }
  }
}

import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { RedisClient } from '@marty/redis'
import { redisScript } from '@marty/redis/script'
import { PolicyInvalid, PolicyStoreUnavailable } from '../errors.js'
import { loadPolicy } from '../engine/policy.js'
import { problemOf, type PolicyOrigin } from './origin.js'
import { MAX_FILE_BYTES, tooLarge } from '../parse/policy.js'

/**
 * The Redis in which policies are published for every instance of a service. Anyone who can write there
 * decides who may do what.
 */
export interface PolicyRedis {
  /** For example `openRedis(...).client`. It is never closed here. */
  readonly client: RedisClient
  /**
   * A second client, used only for the subscription, so that a published policy is loaded immediately.
   * @default none: polling finds it
   */
  readonly subscriber?: RedisClient | undefined
  /** Prefix of the key: 1 to 64 letters, digits, `_`, `:`, `.` or `-`. @default 'marty:rbac' */
  readonly prefix?: string
}

export interface PublishPolicyOptions extends Pick<PolicyRedis, 'client' | 'prefix'> {
  readonly text: string
  /** The file name to report mistakes with; its folder is not published. */
  readonly file: string
}

export interface PublishedPolicy {
  /**
   * The time of publishing, in milliseconds since the epoch by the clock of Redis; always greater than the
   * previous generation.
   */
  readonly generation: number
  readonly sha256: string
}

/** Time to live of a published policy; instances that follow it renew it. */
const TTL_SECONDS = 30 * 86_400
const SETTLE_MS = 20
const START_MS = 2_000
const UNREACHABLE = 'unreachable'

/**
 * KEYS[1]: hash of generation, sha256, file and text. ARGV: sha256, file,
 * text, seconds to keep it. The generation is the time, so that a policy
 * published after Redis has lost its data is still newer than the ones before.
 */
const PUBLISH = redisScript(`
local time = redis.call('TIME')
local before = tonumber(redis.call('HGET', KEYS[1], 'generation')) or 0
if not (before < 2 ^ 52) then before = 0 end
local generation = string.format('%.0f', math.max(time[1] * 1000 + math.floor(time[2] / 1000), before + 1))
redis.call('HSET', KEYS[1], 'generation', generation, 'sha256', ARGV[1], 'file', ARGV[2], 'text', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.pcall('PUBLISH', KEYS[1], generation .. ' ' .. ARGV[1])
return generation
`)

/** KEYS[1] as above. ARGV[1]: seconds to keep it. */
const IDENTIFY = redisScript(`
if redis.call('TTL', KEYS[1]) < ARGV[1] / 2 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return redis.call('HMGET', KEYS[1], 'generation', 'sha256')
`)

/** KEYS[1] as above. ARGV[1]: maximum length; a longer text is not returned. */
const READ = redisScript(`
local found = redis.call('HMGET', KEYS[1], 'generation', 'sha256', 'file')
found[4] = redis.call('HSTRLEN', KEYS[1], 'text')
if found[4] <= tonumber(ARGV[1]) then found[5] = redis.call('HGET', KEYS[1], 'text') end
return found
`, { answer: 'buffer' })

/**
 * Checks a policy and publishes it to every instance that follows this Redis. Throws `MARTY_RBAC_POLICY_INVALID` with
 * every mistake of the text, and `MARTY_RBAC_STORE_UNAVAILABLE` when Redis does not answer.
 *
 * @example
 * await publishPolicy({ client: redis.client, text: await readFile(file, 'utf8'), file })
 */
export async function publishPolicy ({
  client,
  prefix = DEFAULT_PREFIX,
  text,
  file
}: PublishPolicyOptions): Promise<PublishedPolicy> {
  const { sha256 } = await loadPolicy(text, file)
  try {
    const generation = await PUBLISH(client, [keyOf(prefix)], [sha256, basename(file), text, TTL_SECONDS])
    return { generation: Number(generation), sha256 }
  } catch (error) {
    // Only the message: the error object contains the text of the policy.
    throw new PolicyStoreUnavailable({ cause: (error as Error).message })
  }
}

export const DEFAULT_PREFIX = 'marty:rbac'

function keyOf (prefix: string): string {
  return `${prefix}:policy`
}

/** Follows the policy that is published in Redis. */
export function redisOrigin (
  { client, subscriber, prefix = DEFAULT_PREFIX }: PolicyRedis,
  pollMs: number
): PolicyOrigin {
  const key = keyOf(prefix)
  const refuse = (message: string): never => {
    throw new PolicyInvalid([problemOf(`redis key ${key}`, message)])
  }
  const identify = async (): Promise<string> => {
    try {
      return String(await IDENTIFY(client, [key], [TTL_SECONDS]))
    } catch {
      return UNREACHABLE
    }
  }
  return {
    pollMs,
    settleMs: SETTLE_MS,
    identify,
    async start () {
      const deadline = performance.now() + START_MS
      while ((await identify()) === UNREACHABLE && performance.now() < deadline) await delay(50)
    },
    listen (report) {
      if (subscriber === undefined) return () => {}
      // A failed subscription is repeated with the next connection; until then polling continues.
      const subscribe = (): void => {
        subscriber.subscribe(key).catch(() => {})
      }
      const onMessage = (channel: string): void => {
        if (channel === key) report()
      }
      subscriber.on('ready', subscribe).on('message', onMessage)
      if (subscriber.status === 'ready') subscribe()
      return () => {
        subscriber.off('ready', subscribe).off('message', onMessage)
        // Another application in this process may use the same subscriber.
        if (subscriber.listenerCount('message') === 0) subscriber.unsubscribe(key).catch(() => {})
      }
    },
    async read (newest) {
      const found = await READ(client, [key], [MAX_FILE_BYTES]).catch((error: Error) =>
        refuse(`cannot be read: ${error.message}`)
      )
      const [count, hash, name, size, bytes] = found as [
        Buffer | null,
        Buffer | null,
        Buffer | null,
        number,
        (Buffer | null)?
      ]
      if (count === null && size === 0) return newest === 0 ? null : refuse('holds no policy any more')
      if (size > MAX_FILE_BYTES) throw new PolicyInvalid([tooLarge(`redis key ${key}`, size)])
      const generation = Number(count)
      const sha256 = String(hash)
      if (
        !Number.isSafeInteger(generation) ||
        generation <= 0 ||
        name === null ||
        bytes == null ||
        !/^[\da-f]{64}$/.test(sha256)
      ) {
        return refuse('is damaged; publish the policy again')
      }
      if (generation < newest) return refuse(`holds generation ${generation}, older than ${newest}, which is in use`)
      return { bytes, file: String(name), sha256, generation }
    }
  }
}

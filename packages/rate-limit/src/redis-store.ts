import { hash } from 'node:crypto'
import { TAKE_SCRIPT } from './redis-script.js'
import type { Charge, ChargeState, LimitStore, StoreAnswer } from './store.js'

/** What the limiter needs of a Redis client; an ioredis client, single or cluster, is one. */
export interface RedisClient {
  evalsha (sha1: string, numberOfKeys: number, ...args: Array<string | number>): Promise<unknown>
  eval (script: string, numberOfKeys: number, ...args: Array<string | number>): Promise<unknown>
}

export interface RedisStoreOptions {
  readonly redis: RedisClient
  /** Begins every key. @default 'marty:limit' */
  readonly prefix?: string
}

const SCRIPT_SHA1 = hash('sha1', TAKE_SCRIPT)

/** Keeps the logs in Redis: exact over every process that shares it. Rejects when Redis does; see `createGuardedStore`. */
export function createRedisStore (options: RedisStoreOptions): LimitStore {
  const { redis, prefix = 'marty:limit' } = options

  async function take (charges: readonly Charge[]): Promise<StoreAnswer> {
    const args: Array<string | number> = charges.map(charge => keyOf(prefix, charge))
    for (const charge of charges) args.push(charge.limit, charge.windowMs * 1000, charge.cost)
    return read(await run(charges.length, args), charges.length)
  }

  async function run (keys: number, args: ReadonlyArray<string | number>): Promise<unknown> {
    try {
      return await redis.evalsha(SCRIPT_SHA1, keys, ...args)
    } catch (error) {
      // The only failure after which it is certain that nothing was counted, hence the only one that is sent again.
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
      return await redis.eval(TAKE_SCRIPT, keys, ...args)
    }
  }

  return { take }
}

/**
 * One hash tag for every key: all logs of a decision must live in one slot for one call to decide them together,
 * and an address's log must be found whoever the principal is. What clients supply enters hashed, at a fixed length.
 */
function keyOf (prefix: string, charge: Charge): string {
  return `{${prefix}}:${charge.rule}:${hash('sha256', charge.subject, 'base64url').slice(0, 22)}`
}

function read (reply: unknown, charges: number): StoreAnswer {
  if (!Array.isArray(reply) || reply.length !== 1 + 3 * charges || !reply.every(item => Number.isInteger(item))) {
    throw new TypeError('Redis answered the limiter with something else than a decision')
  }
  const numbers = reply as number[]
  const states: ChargeState[] = []
  for (let i = 1; i < numbers.length; i += 3) {
    states.push({ remaining: numbers[i]!, resetUs: numbers[i + 1]!, retryUs: numbers[i + 2]! })
  }
  return { allowed: numbers[0] === 1, degraded: false, states }
}

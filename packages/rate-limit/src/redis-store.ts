import { hash } from 'node:crypto'
import { redisScript, type ScriptClient } from '@marty/redis'
import { TAKE_SCRIPT } from './redis-script.js'
import type { Charge, ChargeState, LimitStore, StoreAnswer } from './store.js'

export interface RedisStoreOptions {
  readonly redis: ScriptClient
  /** Begins every key. @default 'marty:limit' */
  readonly prefix?: string
}

const runTake = redisScript(TAKE_SCRIPT)

/** Keeps the logs in Redis: exact over every process that shares it. Rejects when Redis does; see `createGuardedStore`. */
export function createRedisStore (options: RedisStoreOptions): LimitStore {
  const { redis, prefix = 'marty:limit' } = options

  async function take (charges: readonly Charge[]): Promise<StoreAnswer> {
    const keys = charges.map(charge => keyOf(prefix, charge))
    const args = charges.flatMap(charge => [charge.limit, charge.windowMs * 1000, charge.cost])
    return read(await runTake(redis, keys, args), charges.length)
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

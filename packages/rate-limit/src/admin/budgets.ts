import { withinDeadline } from '@marty/redis/deadline'
import { redisScript, type RedisScript, type ScriptArgument, type ScriptClient } from '@marty/redis/script'
import { budgetKey, ruleOf, subjectIn } from './budget.js'
import { StoreUnavailable } from '../errors.js'
import { windowName } from '../redis/key.js'
import { FORGET_SCRIPT, PEEK_SCRIPT, RESET_SCRIPT, TOP_SCRIPT } from './scripts.js'
import type { LimitRule } from '../rule-options.js'
import { LINGER_MS, MAX_REFUSED, type Refused } from './refusals.js'
import type { OperableStore } from '../store/store.js'

/** A rule as services publish it. */
export interface PublishedRule extends LimitRule {
  /** The rule whose window it reads: another rule for a burst, otherwise the rule itself. */
  readonly windowOf: string
}

/**
 * Operations on budgets in Redis, by key. All methods throw `MARTY_RATE_LIMIT_STORE_UNAVAILABLE` when Redis does not
 * answer within the deadline.
 */
export interface RedisBudgets extends OperableStore {
  /** The units in the window, and the times for a request of that cost. `owner` is the rule that owns the window. */
  read(
    key: string,
    limit: number,
    windowMs: number,
    cost: number,
    owner?: string
  ): Promise<{ readonly used: number, readonly resetUs: number, readonly retryUs: number }>
  /**
   * Empties a budget; false when nothing was used. `windowMs` is the longest time that a process may remember a
   * refusal. A burst is emptied with its rule.
   */
  forget(key: string, windowMs: number, owner?: string): Promise<boolean>
  /** The refused budgets; the most refused first. */
  top(count: number): Promise<readonly Refused[]>
  /** Null when no service has published it. */
  rule(name: string): Promise<PublishedRule | null>
  ruleNames(): Promise<readonly string[]>
}

const peek = redisScript(PEEK_SCRIPT)
const dropWindows = redisScript(FORGET_SCRIPT)
const markReset = redisScript(RESET_SCRIPT)
const readTop = redisScript(TOP_SCRIPT)

export function createRedisBudgets (
  redis: ScriptClient & { readonly isCluster?: boolean },
  prefix: string,
  deadlineMs: number
): RedisBudgets {
  const { rules, refused, refusals, resets } = controlKeys(prefix)

  /** The keys of both storage formats: the limit determines the format, and it may have changed. */
  const keysOf = (key: string, owner = ruleOf(key)): string[] =>
    [false, true].map(isList => windowName(prefix, redis.isCluster === true, owner, subjectIn(key), isList).key)

  const run = async (script: RedisScript, keys: readonly string[], args: readonly ScriptArgument[]): Promise<unknown> =>
    await reach(deadlineMs, script(redis, keys, args))

  const read: RedisBudgets['read'] = async (key, limit, windowMs, cost, owner) => {
    const states = await Promise.all(
      keysOf(key, owner).map(
        async (name, isList) =>
          (await run(peek, [name], [limit, windowMs * 1000, cost, isList])) as [number, number, number]
      )
    )
    const [used, resetUs, retryUs] = states.reduce((a, b) => (b[0] > a[0] ? b : a))
    return { used, resetUs, retryUs }
  }

  const forget: RedisBudgets['forget'] = async (key, windowMs, owner) => {
    const gone = await run(dropWindows, keysOf(key, owner), [])
    // Mark the reset last, so that every refusal from the old window is older than the mark.
    await run(markReset, [refused, refusals, resets], [key, windowMs + 1000, MAX_REFUSED])
    return Number(gone) > 0
  }

  return {
    read,
    forget,
    peek: async charges =>
      await Promise.all(
        charges.map(async ({ rule, subject, limit, windowMs, cost, windowOf }) => {
          const { used, resetUs, retryUs } = await read(budgetKey(rule, subject), limit, windowMs, cost, windowOf)
          return { remaining: Math.max(0, limit - used), resetUs, retryUs }
        })
      ),
    async reset (charges) {
      await Promise.all(
        charges.map(async ({ rule, subject, windowMs, windowOf }) => {
          await forget(budgetKey(rule, subject), windowMs, windowOf)
        })
      )
    },

    async top (count) {
      const found = (await run(readTop, [refused, refusals], [LINGER_MS])) as Array<readonly [string, number, number]>
      return found
        .sort((a, b) => b[2] - a[2])
        .slice(0, count)
        .map(([key, retryAfterMs, refusals]) => ({ key, rule: ruleOf(key), refusals, retryAfterMs }))
    },

    async rule (name) {
      const found = await reach(deadlineMs, redis.callBuffer('HGET', [rules, name]))
      return found === null ? null : (JSON.parse(String(found)) as PublishedRule)
    },

    ruleNames: async () =>
      ((await reach(deadlineMs, redis.callBuffer('HKEYS', [rules]))) as Buffer[]).map(String).sort()
  }
}

/**
 * Keys that are not windows. They share one hash tag, so that a script may use several of
 * them in a cluster. No rule can have such a name.
 */
export function controlKeys (prefix: string): Readonly<Record<'rules' | 'refused' | 'refusals' | 'resets', string>> {
  const key = (what: string): string => `{${prefix}}:#${what}`
  return { rules: key('rules'), refused: key('refused'), refusals: key('refusals'), resets: key('resets') }
}

async function reach<T> (deadlineMs: number, work: Promise<T>): Promise<T> {
  try {
    return await withinDeadline(deadlineMs, work, 'Redis')
  } catch (error) {
    throw new StoreUnavailable({ message: 'Redis does not answer, so nobody knows how the limits stand', cause: error })
  }
}

import { closest } from '@marty/core'
import type { ScriptClient } from '@marty/redis'
import { budgetKey, budgetOf, isBudgetKey, windowIn, ruleOf, subjectIn, type BudgetName } from './budget.js'
import { BudgetInvalid, RuleUnknown } from '../errors.js'
import { limitOf } from '../limiter.js'
import { DEFAULT_PREFIX } from '../redis/key.js'
import { createRedisBudgets, type PublishedRule } from './budgets.js'
import type { Refused } from './refusals.js'

/**
 * Operations for operators, which need only Redis: the service does not have to be running. All methods throw
 * `MARTY_RATE_LIMIT_STORE_UNAVAILABLE` when Redis does not answer.
 */
export interface LimitAdmin {
  /**
   * Returns the current state of a budget. Charges nothing.
   *
   * @param budget its key, as `top` returns it, or a `BudgetName`
   * @throws `MARTY_RATE_LIMIT_RULE_UNKNOWN` for a name whose rule no service has used for a day
   * @throws `MARTY_RATE_LIMIT_BUDGET_INVALID` when the members are not those that the rule counts by
   */
  show (budget: string | BudgetName): Promise<BudgetState>
  /**
   * Empties a budget. The next call to Redis finds it empty. A process that refuses from its
   * own memory continues to refuse until the retry time, or for about a second after the
   * first such refusal, whichever is sooner. `wasUsed` tells whether any unit was used. A
   * rule and its burst share one window, so resetting one resets both. Throws like `show`.
   */
  reset (budget: string | BudgetName): Promise<{ readonly key: string, readonly wasUsed: boolean }>
  /** The budgets that any process refuses now or refused within the last minute; the most refused first. */
  top (count?: number): Promise<readonly Refused[]>
}

export interface LimitAdminOptions {
  /** A client of the same kind as the service uses: a cluster client for a cluster. It is never closed here. */
  readonly redis: ScriptClient & { readonly isCluster?: boolean }
  /** The prefix that the service uses. @default 'marty:limit' */
  readonly prefix?: string
  /** Longest wait for Redis, in milliseconds. @default 2000 */
  readonly deadlineMs?: number
}

export interface BudgetState {
  /** The key of the budget: `login:address:203.0.113.7`. */
  readonly key: string
  readonly rule: string
  /** Null when it is unknown: the rule is not in use, or the limit depends on roles that were not given. */
  readonly limit: number | null
  /** Null when the rule is not in use. */
  readonly windowMs: number | null
  /** Units used in the window that ends now; all stored units when the window is unknown. */
  readonly used: number
  readonly remaining: number | null
  /** Time until the oldest unit leaves the window, in milliseconds; 0 when nothing is used. */
  readonly resetMs: number | null
  /** Time until a request of the rule's cost fits, in milliseconds; 0 when one fits now. */
  readonly retryAfterMs: number | null
}

const DAY_MS = 24 * 3600 * 1000

/** Replaces an unknown limit or window: larger than any rule can have. */
const UNBOUNDED = 2 ** 42

export function createLimitAdmin ({
  redis,
  prefix = DEFAULT_PREFIX,
  deadlineMs = 2_000
}: LimitAdminOptions): LimitAdmin {
  const budgets = createRedisBudgets(redis, prefix, deadlineMs)

  async function find (
    budget: string | BudgetName
  ): Promise<{
    readonly key: string
    readonly rule: PublishedRule | null
    readonly roles: readonly string[] | undefined
  }> {
    if (typeof budget === 'string') {
      if (!isBudgetKey(budget)) {
        throw new BudgetInvalid(
          `"${budget}" is no key of a budget; expected RULE:WHO, such as login:address:203.0.113.7`
        )
      }
      return { key: budget, rule: await budgets.rule(ruleOf(budget)), roles: undefined }
    }
    const rule = await budgets.rule(budget.rule)
    if (rule === null) throw unknown(budget.rule, await budgets.ruleNames())
    return { key: budgetOf(budget, rule.by), rule, roles: budget.principal?.roles }
  }

  function unknown (name: string, known: readonly string[]): Error {
    const near = closest(name, known)
    return new RuleUnknown(
      `no service uses a rule "${name}" under the prefix ${prefix}; ` +
        (near !== null ? `did you mean "${near}"?` : `known are ${known.join(', ') || 'none'}`)
    )
  }

  return {
    async show (budget) {
      const { key, rule, roles } = await find(budget)
      const windowMs = rule?.windowMs ?? windowIn(key)
      const limit =
        rule === null || (typeof rule.limit !== 'number' && roles === undefined)
          ? null
          : limitOf(rule, { roles: roles ?? [] })
      const { used, resetUs, retryUs } = await budgets.read(
        key,
        limit ?? UNBOUNDED,
        windowMs ?? UNBOUNDED,
        rule?.cost ?? 1,
        rule?.windowOf
      )
      return {
        key,
        rule: ruleOf(key),
        limit,
        windowMs,
        used,
        remaining: limit === null ? null : Math.max(0, limit - used),
        resetMs: windowMs === null ? null : Math.ceil(resetUs / 1000),
        retryAfterMs: limit === null ? null : Math.ceil(retryUs / 1000)
      }
    },

    async reset (budget) {
      const { key, rule } = await find(budget)
      const owner = rule?.windowOf ?? ruleOf(key)
      // A rule and its burst read the same window, and refusals of both are remembered.
      const others = [owner, `${owner}.burst`].filter(name => name !== ruleOf(key))
      const readers = await Promise.all(others.map(async name => ({ name, rule: await budgets.rule(name) })))
      const wasUsed = await budgets.forget(key, rule?.windowMs ?? DAY_MS, owner)
      for (const { name, rule } of readers) {
        if (rule !== null && (name === owner || rule.windowOf === owner)) {
          await budgets.forget(budgetKey(name, subjectIn(key)), rule.windowMs, owner)
        }
      }
      return { key, wasUsed }
    },

    top: async (count = 20) => await budgets.top(count)
  }
}

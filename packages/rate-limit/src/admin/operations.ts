import { budgetKey, isBudgetKey, ruleOf, subjectIn } from './budget.js'
import type { DenyCache } from '../store/deny-cache.js'
import { BudgetInvalid } from '../errors.js'
import type { LeasedStore } from '../leases/leased-store.js'
import { refuseUnaffordable, StoreDecision, type LimitDecision } from '../decision.js'
import type { DecisionObserver, LimiterEngine, Who } from '../limiter.js'
import { createMetrics, prometheusText, type LimitMetrics } from './metrics.js'
import type { ResolvedOptions } from '../options.js'
import { createRedisBudgets } from './budgets.js'
import { createRefusalReports, type RefusalReports } from './reports.js'
import { createRefusals, type Refused } from './refusals.js'
import type { Charge, OperableStore } from '../store/store.js'

/**
 * The methods of `fastify.limiter` for operators. Methods that call Redis throw
 * `MARTY_RATE_LIMIT_STORE_UNAVAILABLE` while it is unreachable.
 */
export interface LimitOperations {
  /** The decision that `check` would make now. Charges nothing; each rule is read separately. */
  peek (who: Who, rules: readonly string[], cost?: number): Promise<LimitDecision>
  /** Empties the budgets of these rules: immediately in this process, in others as described at `LimitAdmin.reset`. */
  reset (who: Who, rules: readonly string[]): Promise<void>
  /**
   * Empties one budget by its key, as `top` returns it. Throws
   * `MARTY_RATE_LIMIT_BUDGET_INVALID` when it is not a key.
   */
  reset (key: string): Promise<void>
  /**
   * The budgets refused now or within the last minute, the most refused first: by all
   * processes with Redis, otherwise by this one.
   */
  top (count?: number): Promise<readonly Refused[]>
  /** Decisions of this process since its start, by rule and outcome. */
  metrics (): LimitMetrics
  /** The metrics in the Prometheus text format, to be served as `text/plain; version=0.0.4`. */
  prometheus (): string
}

/** Collects metrics and refusals for operators while the limiter decides. */
export interface Observation {
  readonly observer: DecisionObserver
  operate (engine: LimiterEngine, store: OperableStore, leases: Pick<LeasedStore, 'forget'> | null): LimitOperations
  start (): void
  close (): void
}

export function observe (options: ResolvedOptions, denied: DenyCache): Observation {
  const { now } = options
  const metrics = createMetrics(options.rules.keys())
  const refusals = createRefusals()
  const forget = (key: string): void => {
    denied.forget(key)
    refusals.forget(key)
  }
  const redis = options.store === 'memory' ? null : options.store
  const reports: RefusalReports | null =
    redis === null
      ? null
      : createRefusalReports({
        redis: redis.redis, prefix: redis.prefix, rules: options.rules, refusals, now, onReset: forget
      })

  const observer: DecisionObserver = {
    decided (charges, { allowed, degraded, states }, askedAtMs) {
      for (let i = 0; i < charges.length; i++) {
        const { rule, subject } = charges[i]!
        const counter = metrics.of(rule)
        if (allowed) {
          if (degraded) counter.degraded_allowed++
          else counter.allowed++
        } else if (states[i]!.retryUs > 0) {
          if (degraded) counter.degraded_denied++
          else counter.denied++
          refused(budgetKey(rule, subject), askedAtMs + states[i]!.retryUs / 1000, askedAtMs, askedAtMs)
        }
      }
    },
    refusedFromCache (rule, key, remainingMs, nowMs) {
      metrics.of(rule).known_denied++
      refused(key, nowMs + remainingMs, nowMs)
    },
    failed (charges) {
      for (const { rule } of charges) metrics.of(rule).error++
    }
  }

  function refused (key: string, untilMs: number, nowMs: number, saidAtMs?: number): void {
    refusals.note(key, untilMs, nowMs, saidAtMs)
    reports?.schedule()
  }

  return {
    observer,
    start () { reports?.start() },
    close () { reports?.close() },
    operate (engine, memory, leases) {
      const budgets = redis === null ? null : createRedisBudgets(redis.redis, redis.prefix, redis.deadlineMs)
      return {
        async peek (who, rules, cost) {
          const charges = engine.charges('peek', who, rules, cost)
          const refusal = refuseUnaffordable(charges)
          if (refusal !== null) return refusal
          const states = await (budgets ?? memory).peek(charges)
          const allowed = states.every(({ retryUs }) => retryUs === 0)
          return new StoreDecision(charges, { allowed, degraded: false, states }, now())
        },
        async reset (who: Who | string, rules?: readonly string[]) {
          const charges = typeof who === 'string' ? [budgetCharge(who)] : engine.charges('reset', who, rules ?? [])
          leases?.forget(charges)
          await (budgets ?? memory).reset(charges)
          // Forget the leases once more: until the store was reset, new ones could be taken from the old window.
          leases?.forget(charges)
          for (const { rule, subject } of charges) forget(budgetKey(rule, subject))
        },
        top: async (count = 20) => budgets === null ? refusals.top(count, now()) : await budgets.top(count),
        metrics: () => metrics.read(),
        prometheus: () => prometheusText(metrics.read())
      }
    }
  }
}

/** The window to assume for a budget whose rule is not known: no process remembers its refusal for longer than this. */
const DAY_MS = 86_400_000

function budgetCharge (key: string): Charge {
  if (!isBudgetKey(key)) {
    throw new BudgetInvalid(`"${key}" is no key of a budget; expected RULE:WHO, such as login:address:203.0.113.7`)
  }
  return { rule: ruleOf(key), subject: subjectIn(key), limit: 1, windowMs: DAY_MS, cost: 1 }
}

import { performance } from 'node:perf_hooks'
import { ANONYMOUS, RuleInvalid, type Principal } from '@marty/core'
import { budgetKey } from './budget.js'
import type { DenyCache } from './deny-cache.js'
import type { LimitOperations } from './limit-operations.js'
import { positive, verifyNames, type LimitRule, type ResolvedOptions } from './options.js'
import type { Charge, LimitStore, StoreAnswer } from './store.js'
import { subjectOf, type LimitSubject } from './subject.js'

/** Asks and charges limits outside the guard: for messages, jobs, anything that is not a declared operation. */
export interface Limiter extends LimitOperations {
  /**
   * Charges all the rules, or none when one of them has no room. Refusal is an answer, not an error.
   *
   * @param rules names of configured rules; throws `MARTY_CORE_RULE_INVALID` for an unknown one
   * @param cost units, in place of each rule's own cost; at most the smallest limit
   * @throws `MARTY_RATE_LIMIT_STORE_UNAVAILABLE` while Redis is gone and limits fail closed
   */
  check (who: Who, rules: readonly string[], cost?: number): Promise<LimitDecision>
}

/** Whose budgets are meant. */
export interface Who {
  readonly address: string | null
  /** @default ANONYMOUS */
  readonly principal?: Principal
  /** Needed by rules that count by operation. @default '' */
  readonly operation?: string
}

export interface LimitDecision {
  readonly allowed: boolean
  /** Exact time until the same request fits, in milliseconds rounded up; 0 when it was allowed. */
  readonly retryAfterMs: number
  /** Names of the rules that had no room. */
  readonly violated: readonly string[]
  /** Decided while the shared store was gone. */
  readonly degraded: boolean
  /** Where each rule stands now; empty when the request was let through uncounted. */
  readonly quotas: readonly Quota[]
}

export interface Policy {
  readonly rule: string
  /** The caller's limit, in units. */
  readonly limit: number
  readonly windowMs: number
}

export interface Quota extends Policy {
  /** Units left; never negative. */
  readonly remaining: number
  /** Milliseconds, rounded up, until there is more quota; 0 when nothing is used. */
  readonly resetMs: number
}

/** Told how decisions ended, while they are made: it may cost next to nothing. Times are on the limiter's clock, in milliseconds. */
export interface DecisionObserver {
  decided (charges: readonly Charge[], answer: StoreAnswer, askedAtMs: number): void
  /** A budget refused without asking the store. */
  known (key: string, remainingMs: number, nowMs: number): void
  /** No decision: the store was gone and limits fail closed. */
  failed (charges: readonly Charge[]): void
}

/** The engine behind both the guard's checks and `fastify.limiter`. */
export interface LimiterEngine extends Pick<Limiter, 'check'> {
  take (subject: LimitSubject, rules: readonly string[], cost?: number): LimitDecision | Promise<LimitDecision>
  /** The decision that is already known without asking the store, for rules that depend on the address alone; null when it is open. */
  known (subject: LimitSubject, rules: readonly string[]): LimitDecision | null
  /** Whether `known` can ever answer for this rule. */
  isKnowable (rule: string): boolean
  /** The policies that are the same for every caller. */
  policiesOf (rules: readonly string[]): readonly Policy[]
  /** The charges of one of the limiter's methods, called with these arguments. */
  charges (method: string, who: Who, rules: readonly string[], cost?: number): readonly Charge[]
}

export function createLimiter (options: ResolvedOptions, store: LimitStore, denied: DenyCache, observer: DecisionObserver): LimiterEngine {
  const now = options.now ?? (() => performance.now())

  const rule = (name: string): Required<LimitRule> => options.rules.get(name)!

  // A limit that depends on roles is not known before it is known who is calling.
  const isKnowable = (name: string): boolean => typeof rule(name).limit === 'number' && rule(name).by.startsWith('address')

  function take (subject: LimitSubject, names: readonly string[], cost?: number): LimitDecision | Promise<LimitDecision> {
    return ask(names.map(name => chargeOf(name, rule(name), subject, cost)))
  }

  function ask (charges: readonly Charge[]): LimitDecision | Promise<LimitDecision> {
    // Taken before the question is asked and rounded down, so that what is remembered ends no later than the store would say.
    const askedAtUs = Math.floor(now() * 1000)
    const failed = (error: unknown): never => {
      observer.failed(charges)
      throw error
    }
    let answer: StoreAnswer | Promise<StoreAnswer>
    try {
      answer = store.take(charges)
    } catch (error) {
      return failed(error)
    }
    return answer instanceof Promise
      ? answer.then(answer => decide(charges, answer, askedAtUs), failed)
      : decide(charges, answer, askedAtUs)
  }

  function decide (charges: readonly Charge[], answer: StoreAnswer, askedAtUs: number): LimitDecision {
    observer.decided(charges, answer, askedAtUs / 1000)
    if (!answer.degraded) remember(charges, answer, askedAtUs)
    return decisionOf(charges, answer)
  }

  /** Also after the last admitted request: the next one need not be let as far as its credential. */
  function remember (charges: readonly Charge[], answer: StoreAnswer, askedAtUs: number): void {
    for (const [i, charge] of charges.entries()) {
      const { retryUs } = answer.states[i]!
      if (retryUs > 0 && charge.cost === rule(charge.rule).cost && isKnowable(charge.rule)) {
        denied.note(budgetKey(charge.rule, charge.subject), (askedAtUs + retryUs) / 1000)
      }
    }
  }

  function known (subject: LimitSubject, names: readonly string[]): LimitDecision | null {
    const at = now()
    let retryAfterMs = 0
    const quotas: Quota[] = []
    for (const name of names) {
      const key = budgetKey(name, subjectOf(rule(name).by, subject))
      const remaining = denied.remainingMs(key, at)
      if (remaining === 0) continue
      observer.known(key, remaining, at)
      const resetMs = Math.ceil(remaining)
      retryAfterMs = Math.max(retryAfterMs, resetMs)
      quotas.push({ rule: name, limit: limitOf(rule(name), subject.principal), windowMs: rule(name).windowMs, remaining: 0, resetMs })
    }
    if (quotas.length === 0) return null
    return { allowed: false, retryAfterMs, violated: quotas.map(quota => quota.rule), degraded: false, quotas }
  }

  function charges (method: string, { address, principal = ANONYMOUS, operation = '' }: Who, names: readonly string[], cost?: number): readonly Charge[] {
    const where = `limiter.${method}()`
    verifyNames(where, names, options.rules, (field, message) => new RuleInvalid(`${field} ${message}`))
    if (cost !== undefined) positive(`${where} cost`, cost, Math.min(...names.map(name => limitOf(rule(name), principal))))
    return names.map(name => chargeOf(name, rule(name), { address, principal, operation }, cost))
  }

  return {
    take,
    known,
    isKnowable,
    policiesOf: names => names.flatMap(name => {
      const { limit, windowMs } = rule(name)
      return typeof limit === 'number' ? [{ rule: name, limit, windowMs }] : []
    }),
    charges,
    check: async (who, names, cost) => await ask(charges('check', who, names, cost))
  }
}

export function decisionOf (charges: readonly Charge[], answer: StoreAnswer): LimitDecision {
  const violated = answer.allowed ? [] : charges.filter((_, i) => answer.states[i]!.retryUs > 0)
  return {
    allowed: answer.allowed,
    retryAfterMs: answer.allowed ? 0 : Math.max(...answer.states.map(state => toMs(state.retryUs))),
    violated: violated.map(charge => charge.rule),
    degraded: answer.degraded,
    quotas: answer.states.map((state, i) => {
      const { rule, limit, windowMs } = charges[i]!
      return { rule, limit, windowMs, remaining: state.remaining, resetMs: toMs(state.resetUs) }
    })
  }
}

function chargeOf (name: string, rule: Required<LimitRule>, subject: LimitSubject, cost: number = rule.cost): Charge {
  return { rule: name, subject: subjectOf(rule.by, subject), limit: limitOf(rule, subject.principal), windowMs: rule.windowMs, cost }
}

export function limitOf ({ limit }: Pick<LimitRule, 'limit'>, principal: Pick<Principal, 'roles'>): number {
  if (typeof limit === 'number') return limit
  let largest = 0
  for (const role of principal.roles) {
    // A role called "default" or "constructor" must not find what is not its own.
    if (role !== 'default' && Object.hasOwn(limit, role)) largest = Math.max(largest, limit[role]!)
  }
  return largest === 0 ? limit.default : largest
}

function toMs (microseconds: number): number {
  return Math.ceil(microseconds / 1000)
}

import { performance } from 'node:perf_hooks'
import { ANONYMOUS, RuleInvalid, type Principal } from '@marty/core'
import type { DenyCache } from './deny-cache.js'
import { positive, verifyNames, type LimitRule, type ResolvedOptions } from './options.js'
import type { Charge, LimitStore, StoreAnswer } from './store.js'
import { subjectOf, type LimitSubject } from './subject.js'

/** Asks and charges limits outside the guard: for messages, jobs, anything that is not a declared operation. */
export interface Limiter {
  /**
   * Charges all the rules, or none when one of them has no room. Refusal is an answer, not an error.
   *
   * @param who `principal` is anonymous by default; `operation` is needed by rules that count by operation
   * @param rules names of configured rules; throws `MARTY_CORE_RULE_INVALID` for an unknown one
   * @param cost units, in place of each rule's own cost; at most the smallest limit
   * @throws `MARTY_RATE_LIMIT_STORE_UNAVAILABLE` while Redis is gone and limits fail closed
   */
  check (who: { readonly address: string | null, readonly principal?: Principal, readonly operation?: string }, rules: readonly string[], cost?: number): Promise<LimitDecision>
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

/** The engine behind both the guard's checks and `fastify.limiter`. */
export interface LimiterEngine extends Limiter {
  take (subject: LimitSubject, rules: readonly string[], cost?: number): LimitDecision | Promise<LimitDecision>
  /** The decision that is already known without asking the store, for rules that depend on the address alone; null when it is open. */
  known (subject: LimitSubject, rules: readonly string[]): LimitDecision | null
  /** Whether `known` can ever answer for this rule. */
  isKnowable (rule: string): boolean
  /** The policies that are the same for every caller. */
  policiesOf (rules: readonly string[]): readonly Policy[]
}

export function createLimiter (options: ResolvedOptions, store: LimitStore, denied: DenyCache): LimiterEngine {
  const now = options.now ?? (() => performance.now())

  const rule = (name: string): Required<LimitRule> => options.rules.get(name)!

  // A limit that depends on roles is not known before it is known who is calling.
  const isKnowable = (name: string): boolean => typeof rule(name).limit === 'number' && rule(name).by.startsWith('address')

  function take (subject: LimitSubject, names: readonly string[], cost?: number): LimitDecision | Promise<LimitDecision> {
    const charges = names.map(name => chargeOf(name, rule(name), subject, cost))
    // Taken before the question is asked and rounded down, so that what is remembered ends no later than the store would say.
    const askedAtUs = Math.floor(now() * 1000)
    const answer = store.take(charges)
    return answer instanceof Promise
      ? answer.then(answer => decide(charges, answer, askedAtUs))
      : decide(charges, answer, askedAtUs)
  }

  function decide (charges: readonly Charge[], answer: StoreAnswer, askedAtUs: number): LimitDecision {
    if (!answer.degraded) remember(charges, answer, askedAtUs)
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

  /** Also after the last admitted request: the next one need not be let as far as its credential. */
  function remember (charges: readonly Charge[], answer: StoreAnswer, askedAtUs: number): void {
    for (const [i, charge] of charges.entries()) {
      const { retryUs } = answer.states[i]!
      if (retryUs > 0 && charge.cost === rule(charge.rule).cost && isKnowable(charge.rule)) {
        denied.note(keyOf(charge.rule, charge.subject), (askedAtUs + retryUs) / 1000)
      }
    }
  }

  function known (subject: LimitSubject, names: readonly string[]): LimitDecision | null {
    const at = now()
    let retryAfterMs = 0
    const quotas: Quota[] = []
    for (const name of names) {
      const remaining = denied.remainingMs(keyOf(name, subjectOf(rule(name).by, subject)), at)
      if (remaining === 0) continue
      const resetMs = Math.ceil(remaining)
      retryAfterMs = Math.max(retryAfterMs, resetMs)
      quotas.push({ rule: name, limit: limitOf(rule(name), subject.principal), windowMs: rule(name).windowMs, remaining: 0, resetMs })
    }
    if (quotas.length === 0) return null
    return { allowed: false, retryAfterMs, violated: quotas.map(quota => quota.rule), degraded: false, quotas }
  }

  return {
    take,
    known,
    isKnowable,
    policiesOf: names => names.flatMap(name => {
      const { limit, windowMs } = rule(name)
      return typeof limit === 'number' ? [{ rule: name, limit, windowMs }] : []
    }),
    async check ({ address, principal = ANONYMOUS, operation = '' }, names, cost) {
      verifyNames('limiter.check()', names, options.rules, (where, message) => new RuleInvalid(`${where} ${message}`))
      const subject = { address, principal, operation }
      if (cost !== undefined) positive('limiter.check() cost', cost, Math.min(...names.map(name => limitOf(rule(name), principal))))
      return await take(subject, names, cost)
    }
  }
}

function chargeOf (name: string, rule: Required<LimitRule>, subject: LimitSubject, cost: number = rule.cost): Charge {
  return { rule: name, subject: subjectOf(rule.by, subject), limit: limitOf(rule, subject.principal), capacity: capacityOf(rule), windowMs: rule.windowMs, cost }
}

/** Callers of several roles may share a log, and a log has one form. */
function capacityOf ({ limit }: LimitRule): number {
  return typeof limit === 'number' ? limit : Math.max(...Object.values(limit))
}

function limitOf ({ limit }: LimitRule, principal: Principal): number {
  if (typeof limit === 'number') return limit
  let largest = 0
  for (const role of principal.roles) {
    // A role called "default" or "constructor" must not find what is not its own.
    if (role !== 'default' && Object.hasOwn(limit, role)) largest = Math.max(largest, limit[role]!)
  }
  return largest === 0 ? limit.default : largest
}

function keyOf (rule: string, subject: string): string {
  return `${rule} ${subject}`
}

function toMs (microseconds: number): number {
  return Math.ceil(microseconds / 1000)
}

import { performance } from 'node:perf_hooks'
import { ANONYMOUS, RuleInvalid, type Principal } from '@marty/core'
import type { DenyCache } from './deny-cache.js'
import { positive, verifyNames, type LimitRule, type ResolvedOptions } from './options.js'
import { withBurst, type AppliedRule } from './rule-book.js'
import type { Charge, LimitStore, StoreAnswer } from './store.js'
import { subjectOf, type LimitSubject } from './subject.js'

/** Asks and charges limits outside the guard: for messages, jobs, anything that is not a declared operation. */
export interface Limiter {
  /**
   * Charges all the rules, or none when one of them has no room. Refusal is an answer, not an error.
   *
   * @param who `principal` is anonymous by default; `operation` is needed by rules that count by operation, `account` by
   * rules that count by account: what the caller claims to be, spelled as the store of accounts would look it up
   * @param rules names of configured rules; throws `MARTY_CORE_RULE_INVALID` for an unknown one
   * @param cost units, in place of each rule's own cost; at most the smallest limit
   * @throws `MARTY_CORE_RULE_INVALID` when an account is needed and missing
   * @throws `MARTY_RATE_LIMIT_STORE_UNAVAILABLE` while Redis is gone and limits fail closed
   */
  check (who: { readonly address: string | null, readonly principal?: Principal, readonly operation?: string, readonly account?: string }, rules: readonly string[], cost?: number): Promise<LimitDecision>
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
  take (subject: LimitSubject, rules: readonly AppliedRule[]): LimitDecision | Promise<LimitDecision>
  /** The decision that is already known without asking the store; null when it is open. */
  known (subject: LimitSubject, rules: readonly AppliedRule[]): LimitDecision | null
}

/** What no rule counts. */
const UNCOUNTED: LimitDecision = Object.freeze({ allowed: true, retryAfterMs: 0, violated: Object.freeze([]), degraded: false, quotas: Object.freeze([]) })

/** In a cluster what one slot admits may be taken back when another refuses, so that a refusal may be over before its time. */
const CLUSTER_ASK_AGAIN_US = 1_000_000

/** A limit that depends on roles is not known before it is known who is calling. */
export function isKnowable ({ rule }: AppliedRule): boolean {
  return typeof rule.limit === 'number' && rule.by.startsWith('address')
}

export function createLimiter (options: ResolvedOptions, store: LimitStore, denied: DenyCache): LimiterEngine {
  const now = options.now ?? (() => performance.now())
  const askAgainUs = options.store !== 'memory' && options.store.redis.isCluster === true ? CLUSTER_ASK_AGAIN_US : Infinity

  function chargesOf (subject: LimitSubject, applied: readonly AppliedRule[]): Charge[] {
    const charges: Charge[] = []
    for (const { rule, cost } of applied) {
      if (rule.by === 'apiKey' && subject.principal.kind !== 'key') continue
      const { name, windowMs, capacity, onFailure } = rule
      charges.push({ rule: name, subject: subjectOf(rule.by, subject, options.tenantClaim), limit: limitOf(rule, subject.principal), windowMs, cost, capacity, onFailure })
    }
    return charges
  }

  function ask (charges: readonly Charge[]): LimitDecision | Promise<LimitDecision> {
    if (charges.length === 0) return UNCOUNTED
    const askedAtMs = now()
    const refusal = refusalOf(charges, askedAtMs)
    if (refusal !== null) return refusal
    // Taken before the question is asked and rounded down, so that what is remembered ends no later than the store would say.
    const askedAtUs = Math.floor(askedAtMs * 1000)
    const answer = store.take(charges)
    return answer instanceof Promise
      ? answer.then(answer => decide(charges, answer, askedAtUs))
      : decide(charges, answer, askedAtUs)
  }

  function decide (charges: readonly Charge[], { allowed, degraded, states }: StoreAnswer, askedAtUs: number): LimitDecision {
    let retryUs = 0
    const quotas: Quota[] = []
    const violated: string[] = []
    for (let i = 0; i < states.length; i++) {
      const { rule, limit, windowMs } = charges[i]!
      const state = states[i]!
      quotas.push({ rule, limit, windowMs, remaining: state.remaining, resetMs: toMs(state.resetUs) })
      if (state.retryUs === 0) continue
      // Also after the last admitted request: the next one need not be let as far as the store, or its credential.
      if (!degraded) denied.note(keyOf(charges[i]!), charges[i]!, (askedAtUs + state.retryUs) / 1000, (askedAtUs + Math.min(state.retryUs, askAgainUs)) / 1000)
      if (allowed) continue
      violated.push(rule)
      retryUs = Math.max(retryUs, state.retryUs)
    }
    return { allowed, retryAfterMs: toMs(retryUs), violated, degraded, quotas }
  }

  function refusalOf (charges: readonly Charge[], atMs: number): LimitDecision | null {
    if (denied.isEmpty) return null
    let retryAfterMs = 0
    const quotas: Quota[] = []
    for (const charge of charges) {
      const remaining = denied.remainingMs(keyOf(charge), charge, atMs)
      if (remaining === 0) continue
      const resetMs = Math.ceil(remaining)
      retryAfterMs = Math.max(retryAfterMs, resetMs)
      quotas.push({ rule: charge.rule, limit: charge.limit, windowMs: charge.windowMs, remaining: 0, resetMs })
    }
    if (quotas.length === 0) return null
    return { allowed: false, retryAfterMs, violated: quotas.map(quota => quota.rule), degraded: false, quotas }
  }

  return {
    take: (subject, applied) => ask(chargesOf(subject, applied)),
    known: (subject, applied) => denied.isEmpty ? null : refusalOf(chargesOf(subject, applied), now()),
    async check ({ address, principal = ANONYMOUS, operation = '', account }, names, cost) {
      const fail = (where: string, message: string): Error => new RuleInvalid(`${where} ${message}`)
      verifyNames('limiter.check()', names, options.rules, fail)
      const applied = names.flatMap(name => withBurst(options.rules.get(name)!, cost))
      const unknown = applied.find(({ rule }) => rule.by.startsWith('account'))
      if (unknown !== undefined && (typeof account !== 'string' || account === '')) throw fail('limiter.check()', `needs an account, by which the rule "${unknown.rule.name}" counts`)
      if (cost !== undefined) positive('limiter.check() cost', cost, Math.min(...applied.map(({ rule }) => limitOf(rule, principal))))
      return await ask(chargesOf({ address, principal, operation, account }, applied))
    }
  }
}

function limitOf ({ limit }: Pick<LimitRule, 'limit'>, principal: Principal): number {
  if (typeof limit === 'number') return limit
  let largest = 0
  for (const role of principal.roles) {
    // A role called "default" or "constructor" must not find what is not its own.
    if (role !== 'default' && Object.hasOwn(limit, role)) largest = Math.max(largest, limit[role]!)
  }
  return largest === 0 ? limit.default : largest
}

function keyOf ({ rule, subject }: Charge): string {
  return `${rule} ${subject}`
}

function toMs (microseconds: number): number {
  return Math.ceil(microseconds / 1000)
}

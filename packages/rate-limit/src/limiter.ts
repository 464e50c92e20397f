import { performance } from 'node:perf_hooks'
import { ANONYMOUS, RuleInvalid, type Principal } from '@marty/core'
import { budgetKey } from './admin/budget.js'
import type { DenyCache } from './store/deny-cache.js'
import type { LimitOperations } from './admin/operations.js'
import { MAX_LIMIT, positive, verifyNames, type LimitRule, type ResolvedOptions } from './options.js'
import { withBurst, type AppliedRule } from './route-rules.js'
import type { Charge, LimitStore, StoreAnswer } from './store/store.js'
import { rateLimitRefusal } from './refusal.js'
import { responseHeaders } from './response-headers.js'
import { subjectOf, type LimitSubject } from './subject.js'
import { verifyWho } from './who.js'

/** Asks and charges limits outside the guard: for messages, jobs, anything that is not a declared operation. */
export interface Limiter extends LimitOperations {
  /**
   * Charges all the rules, or none when one of them has no room. Refusal is an answer, not an error.
   *
   * @param rules names of configured rules
   * @param cost units, in place of each rule's own cost; what costs more than a limit is refused, and never fits
   * @throws `MARTY_CORE_RULE_INVALID` for an unknown rule, and when `who` has an unknown member, lacks what a rule counts by or is
   * malformed: such callers would share one budget
   * @throws `MARTY_RATE_LIMIT_STORE_UNAVAILABLE` while Redis is gone and limits fail closed
   */
  check (who: Who, rules: readonly string[], cost?: number): Promise<LimitDecision>
  /**
   * As `check`, but a refusal is thrown: the complete 429, with its headers and `retry_after_ms`.
   *
   * @throws `MARTY_RATE_LIMIT_EXCEEDED`, and what `check` throws
   */
  enforce (who: Who, rules: readonly string[], cost?: number): Promise<LimitDecision>
  /**
   * Takes back what an allowed `check` or `enforce` has charged, so that only what is not taken back counts: failed logins, say.
   * Until then the units count, so requests that run at the same time are limited as well. Resolves with whether it was done:
   * nothing is taken back twice, after the window, from a decision made while Redis was gone, or from leased rules.
   */
  refund (decision: LimitDecision): Promise<boolean>
}

/** Whose budgets are meant. */
export interface Who {
  /** Null where there is none, as on a Unix socket. */
  readonly address: string | null
  /** @default ANONYMOUS */
  readonly principal?: Principal
  /** Needed by rules that count by operation. */
  readonly operation?: string
  /** Needed by rules that count by account: what the caller claims to be, spelled as the store of accounts would look it up. */
  readonly account?: string
}

export interface LimitDecision {
  readonly allowed: boolean
  /** Exact time until the same request fits, in milliseconds rounded up; 0 when it was allowed, Infinity when it never fits. */
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
  known (rule: string, key: string, remainingMs: number, nowMs: number): void
  /** No decision: the store was gone and limits fail closed. */
  failed (charges: readonly Charge[]): void
}

/** The engine behind both the guard's checks and `fastify.limiter`. */
export interface LimiterEngine extends Pick<Limiter, 'check' | 'enforce' | 'refund'> {
  /** Charges the rules, and has the decision made use of. */
  take<Result>(
    subject: LimitSubject,
    rules: readonly AppliedRule[],
    use: (decision: LimitDecision) => Result
  ): Result | Promise<Result>
  /** The decision that is already known without asking the store; null when it is open. */
  known(subject: LimitSubject, rules: readonly AppliedRule[]): LimitDecision | null
  /** The charges of one of the limiter's methods, called with these arguments. */
  charges(method: string, who: Who, rules: readonly string[], cost?: number): readonly Charge[]
}

type Use<Result> = (decision: LimitDecision, takenAtUs?: StoreAnswer['takenAtUs']) => Result

interface Taken {
  readonly charges: readonly Charge[]
  readonly takenAtUs: NonNullable<StoreAnswer['takenAtUs']>
  readonly askedAtMs: number
}

/** What no rule counts. */
const UNCOUNTED: LimitDecision = Object.freeze({
  allowed: true,
  retryAfterMs: 0,
  violated: Object.freeze([]),
  degraded: false,
  quotas: Object.freeze([])
})

/** What one slot of a cluster admits may be taken back when another refuses, and leases when they were not spent, so that a refusal may be over before its time. */
const TAKEN_BACK_US = 1_000_000

/** A limit that depends on roles is not known before it is known who is calling. */
export function isKnowable ({ rule }: AppliedRule): boolean {
  return typeof rule.limit === 'number' && rule.by.startsWith('address')
}

export function createLimiter (
  options: ResolvedOptions,
  store: LimitStore,
  denied: DenyCache,
  observer: DecisionObserver
): LimiterEngine {
  const now = options.now ?? (() => performance.now())
  const defaultAskAgainUs =
    options.store !== 'memory' && options.store.redis.isCluster === true ? TAKEN_BACK_US : Infinity

  const known = new Map<string, readonly AppliedRule[]>()
  /** What may still be taken back, for as long as its caller keeps the decision. */
  const taken = new WeakMap<LimitDecision, Taken>()

  function chargesOf (subject: LimitSubject, applied: readonly AppliedRule[]): Charge[] {
    const charges: Charge[] = []
    for (const { rule, cost } of applied) {
      if (rule.by === 'apiKey' && subject.principal.kind !== 'key') continue
      const { name, windowMs, capacity, onFailure, log, lease } = rule
      charges.push({
        rule: name,
        subject: subjectOf(rule.by, subject, options.tenantClaim),
        limit: limitOf(rule, subject.principal),
        windowMs,
        cost,
        capacity,
        onFailure,
        log,
        lease
      })
    }
    return charges
  }

  function ask<Result> (
    charges: readonly Charge[],
    use: Use<Result>,
    askAgainUs = defaultAskAgainUs
  ): Result | Promise<Result> {
    if (charges.length === 0) return use(UNCOUNTED)
    const askedAtMs = now()
    const refusal = refusalOf(charges, askedAtMs)
    if (refusal !== null) return use(refusal)
    // Taken before the question is asked and rounded down, so that what is remembered ends no later than the store would say.
    const askedAtUs = Math.floor(askedAtMs * 1000)
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
    const decide = (answer: StoreAnswer): Result => {
      observer.decided(charges, answer, askedAtUs / 1000)
      if (!answer.degraded) remember(charges, answer, askedAtUs, askAgainUs)
      return use(decisionOf(charges, answer), answer.takenAtUs)
    }
    return answer instanceof Promise ? answer.then(decide, failed) : decide(answer)
  }

  /** Also after the last admitted request: the next one need not be let as far as the store, or its credential. */
  function remember (charges: readonly Charge[], { states }: StoreAnswer, askedAtUs: number, askAgainUs: number): void {
    for (let i = 0; i < states.length; i++) {
      const { retryUs } = states[i]!
      if (retryUs === 0) continue
      const charge = charges[i]!
      const trustedUs = Math.min(retryUs, charge.lease === undefined ? askAgainUs : TAKEN_BACK_US)
      denied.note(keyOf(charge), charge, (askedAtUs + retryUs) / 1000, (askedAtUs + trustedUs) / 1000)
    }
  }

  function refusalOf (charges: readonly Charge[], atMs: number): LimitDecision | null {
    if (denied.isEmpty) return null
    let retryAfterMs = 0
    const quotas: Quota[] = []
    for (const charge of charges) {
      const key = keyOf(charge)
      const remaining = denied.remainingMs(key, charge, atMs)
      if (remaining === 0) continue
      observer.known(charge.rule, key, remaining, atMs)
      const resetMs = Math.ceil(remaining)
      retryAfterMs = Math.max(retryAfterMs, resetMs)
      quotas.push({ rule: charge.rule, limit: charge.limit, windowMs: charge.windowMs, remaining: 0, resetMs })
    }
    if (quotas.length === 0) return null
    return { allowed: false, retryAfterMs, violated: quotas.map(quota => quota.rule), degraded: false, quotas }
  }

  function charges (method: string, who: Who, names: readonly string[], cost?: number): readonly Charge[] {
    const where = `limiter.${method}()`
    const applied =
      cost === undefined ? appliedOf(where, names) : appliedOf(where, names).map(({ rule }) => ({ rule, cost }))
    verifyWho(where, who, applied)
    if (cost !== undefined) positive(`${where} cost`, cost, MAX_LIMIT)
    const { address, principal = ANONYMOUS, operation = '', account } = who
    return chargesOf({ address, principal, operation, account }, applied)
  }

  async function check (method: string, who: Who, names: readonly string[], cost?: number): Promise<LimitDecision> {
    const charged = charges(method, who, names, cost)
    const askedAtMs = now()
    return (
      unaffordable(charged) ??
      (await ask(
        charged,
        (decision, takenAtUs) => {
          if (decision.allowed && takenAtUs !== undefined) {
            taken.set(decision, { charges: charged, takenAtUs, askedAtMs })
          }
          return decision
          // Others may take back what used this budget up.
        },
        TAKEN_BACK_US
      ))
    )
  }

  async function refund (decision: LimitDecision): Promise<boolean> {
    const found = taken.get(decision)
    if (found === undefined || store.refund === undefined) return false
    taken.delete(decision)
    const elapsedMs = now() - found.askedAtMs
    if (found.charges.every(({ windowMs }) => windowMs <= elapsedMs)) return false
    await store.refund(found.charges, found.takenAtUs)
    for (const charge of found.charges) denied.forget(keyOf(charge))
    return true
  }

  /** What is asked about once is asked about often. Rules never change, and a list of other rules joins to another text. */
  function appliedOf (where: string, names: readonly string[]): readonly AppliedRule[] {
    const key = Array.isArray(names) ? names.join('\n') : null
    let applied = key === null ? undefined : known.get(key)
    if (applied === undefined) {
      verifyNames(where, names, options.rules, (where, message) => new RuleInvalid(`${where} ${message}`))
      applied = names.flatMap(name => withBurst(options.rules.get(name)!))
      known.set(names.join('\n'), applied)
    }
    return applied
  }

  return {
    take: (subject, applied, use) => ask(chargesOf(subject, applied), use),
    known: (subject, applied) => (denied.isEmpty ? null : refusalOf(chargesOf(subject, applied), now())),
    charges,
    check: async (who, names, cost) => await check('check', who, names, cost),
    async enforce (who, names, cost) {
      const decision = await check('enforce', who, names, cost)
      if (!decision.allowed) throw rateLimitRefusal(decision, responseHeaders(decision, options.headers, null))
      return decision
    },
    refund
  }
}

/** A request that costs more than a limit is refused without being counted: it would not fit into an empty budget. */
export function unaffordable (charges: readonly Charge[]): LimitDecision | null {
  const tooDear = charges.filter(({ cost, limit }) => cost > limit)
  if (tooDear.length === 0) return null
  const quotas = tooDear.map(({ rule, limit, windowMs }) => ({ rule, limit, windowMs, remaining: 0, resetMs: 0 }))
  return { allowed: false, retryAfterMs: Infinity, violated: quotas.map(({ rule }) => rule), degraded: false, quotas }
}

export function decisionOf (charges: readonly Charge[], { allowed, degraded, states }: StoreAnswer): LimitDecision {
  let retryUs = 0
  const quotas: Quota[] = []
  const violated: string[] = []
  for (let i = 0; i < states.length; i++) {
    const { rule, limit, windowMs } = charges[i]!
    const state = states[i]!
    quotas.push({ rule, limit, windowMs, remaining: state.remaining, resetMs: toMs(state.resetUs) })
    if (allowed || state.retryUs === 0) continue
    violated.push(rule)
    retryUs = Math.max(retryUs, state.retryUs)
  }
  return { allowed, retryAfterMs: toMs(retryUs), violated, degraded, quotas }
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

function keyOf ({ rule, subject }: Charge): string {
  return budgetKey(rule, subject)
}

function toMs (microseconds: number): number {
  return Math.ceil(microseconds / 1000)
}

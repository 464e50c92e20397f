import { ANONYMOUS, RuleInvalid, type Principal } from '@marty/core'
import { budgetKey } from './admin/budget.js'
import { refuseUnaffordable, StoreDecision, UNCOUNTED, type LimitDecision, type Quota } from './decision.js'
import type { DenyCache } from './store/deny-cache.js'
import type { LimitOperations } from './admin/operations.js'
import { MAX_LIMIT, positive } from './option-scope.js'
import type { ResolvedOptions } from './options.js'
import { withBurst, type AppliedRule } from './route-rules.js'
import type { LimitRule } from './rule-options.js'
import { verifyNames } from './rules.js'
import type { Charge, LimitStore, StoreAnswer } from './store/store.js'
import { rateLimitRefusal } from './refusal.js'
import { responseHeaders } from './response-headers.js'
import { subjectOf, type LimitSubject } from './subject.js'
import { verifyWho } from './who.js'

/**
 * Checks and charges limits outside the guard: for messages, jobs, and anything else
 * that is not a declared operation.
 */
export interface Limiter extends LimitOperations {
  /**
   * Charges all the rules, or none if one of them is used up. A refusal is returned, not thrown.
   *
   * @param rules names of configured rules
   * @param cost units, overriding each rule's own cost; a request that costs more than
   * a limit is refused and never fits
   * @throws `MARTY_CORE_RULE_INVALID` for an unknown rule, and when `who` has an unknown member, is malformed, or
   * lacks a member that a rule counts by: all such callers would share one budget
   * @throws `MARTY_RATE_LIMIT_STORE_UNAVAILABLE` while Redis is unreachable and limits fail closed
   */
  check (who: Who, rules: readonly string[], cost?: number): Promise<LimitDecision>
  /**
   * Like `check`, but throws a refusal: the complete 429, with its headers and `retry_after_ms`.
   *
   * @throws `MARTY_RATE_LIMIT_EXCEEDED`, and what `check` throws
   */
  enforce (who: Who, rules: readonly string[], cost?: number): Promise<LimitDecision>
  /**
   * Refunds the units that an allowed `check` or `enforce` has charged, so that only the others count: failed logins,
   * for example. Until then the units count, so requests that run at the same time are limited as well. Resolves with
   * false when nothing was refunded: for a second call, after the window, for a decision made while Redis was
   * unreachable, and for leased rules.
   */
  refund (decision: LimitDecision): Promise<boolean>
}

/** Identifies the budgets to charge. */
export interface Who {
  /** Null where there is none, as on a Unix socket. */
  readonly address: string | null
  /** @default ANONYMOUS */
  readonly principal?: Principal
  /** Required by rules that count by operation. */
  readonly operation?: string
  /**
   * Required by rules that count by account: the account that the caller claims to own, spelled as your lookup does.
   */
  readonly account?: string
}

/**
 * Receives the outcome of every decision. Called on the path of each request, so its methods must be very cheap.
 * Times are on the limiter's clock, in milliseconds.
 */
export interface DecisionObserver {
  decided (charges: readonly Charge[], answer: StoreAnswer, askedAtMs: number): void
  /** A budget was refused from local memory, without a call to the store. */
  refusedFromCache (rule: string, key: string, remainingMs: number, nowMs: number): void
  /** There was no decision: the store was unreachable and limits fail closed. */
  failed (charges: readonly Charge[]): void
}

/** The engine behind both the guard's checks and `fastify.limiter`. */
export interface LimiterEngine extends Pick<Limiter, 'check' | 'enforce' | 'refund'> {
  /** Charges the rules and passes the decision to `use`. */
  take<Result>(
    subject: LimitSubject,
    rules: readonly AppliedRule[],
    use: (decision: LimitDecision) => Result
  ): Result | Promise<Result>
  /** The refusal that is known without a call to the store; null when only the store can decide. */
  cachedRefusal(subject: LimitSubject, rules: readonly AppliedRule[]): LimitDecision | null
  /** The charges that a method of the limiter makes for these arguments. */
  charges(method: string, who: Who, rules: readonly string[], cost?: number): readonly Charge[]
}

/**
 * How long a refusal is trusted when it may end early: a slot of a cluster returns units when another slot refuses the
 * request, and leases return units that were not spent.
 */
const TAKEN_BACK_US = 1_000_000

/**
 * Whether a rule can be checked before authentication. A limit that depends on roles
 * cannot: the caller is not known yet.
 */
export function isKnowable ({ rule }: AppliedRule): boolean {
  return typeof rule.limit === 'number' && rule.by.startsWith('address')
}

export function createLimiter (
  options: ResolvedOptions,
  store: LimitStore,
  denied: DenyCache,
  observer: DecisionObserver
): LimiterEngine {
  const { now } = options
  const defaultAskAgainUs =
    options.store !== 'memory' && options.store.redis.isCluster === true ? TAKEN_BACK_US : Infinity

  const lists = new Map<string | undefined, readonly NamedRules[]>()

  function chargesOf (subject: LimitSubject, applied: readonly AppliedRule[]): Charge[] {
    const charges: Charge[] = []
    for (const { rule, cost } of applied) {
      if (rule.by === 'apiKey' && subject.principal.kind !== 'key') continue
      const { name, windowMs, capacity, onFailure, windowOf, lease } = rule
      charges.push({
        rule: name,
        subject: subjectOf(rule.by, subject, options.tenantClaim),
        limit: limitOf(rule, subject.principal),
        windowMs,
        cost,
        capacity,
        onFailure,
        windowOf,
        lease
      })
    }
    return charges
  }

  function take<Result> (
    subject: LimitSubject,
    applied: readonly AppliedRule[],
    use: (decision: LimitDecision) => Result
  ): Result | Promise<Result> {
    const charges = chargesOf(subject, applied)
    const askedAtMs = now()
    const known = decisionWithoutStore(charges, askedAtMs)
    if (known !== null) return use(known)
    let answer: StoreAnswer | Promise<StoreAnswer>
    try {
      answer = store.take(charges)
    } catch (error) {
      return failed(charges, error)
    }
    return answer instanceof Promise
      ? answer.then(
        answer => use(answered(charges, answer, askedAtMs, defaultAskAgainUs)),
        (error: unknown) => failed(charges, error)
      )
      : use(answered(charges, answer, askedAtMs, defaultAskAgainUs))
  }

  function decisionWithoutStore (charges: readonly Charge[], atMs: number): LimitDecision | null {
    return charges.length === 0 ? UNCOUNTED : refusalOf(charges, atMs)
  }

  function answered (
    charges: readonly Charge[],
    answer: StoreAnswer,
    askedAtMs: number,
    askAgainUs: number
  ): LimitDecision {
    // Measured before the call and rounded down, so that a remembered refusal never ends later than the store's own.
    const askedAtUs = Math.floor(askedAtMs * 1000)
    observer.decided(charges, answer, askedAtUs / 1000)
    if (!answer.degraded) remember(charges, answer, askedAtUs, askAgainUs)
    return new StoreDecision(charges, answer, askedAtMs)
  }

  function failed (charges: readonly Charge[], error: unknown): never {
    observer.failed(charges)
    throw error
  }

  /**
   * Remembers the budgets that are used up. An admitted request may have used up the last unit: then the next one is
   * refused before its credential is checked.
   */
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
      observer.refusedFromCache(charge.rule, key, remaining, atMs)
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
    const known = refuseUnaffordable(charged) ?? decisionWithoutStore(charged, askedAtMs)
    if (known !== null) return known
    let answer: StoreAnswer
    try {
      const taken = store.take(charged)
      answer = taken instanceof Promise ? await taken : taken
    } catch (error) {
      return failed(charged, error)
    }
    // Other callers may refund the units that used a budget up, so ask the store again after a second.
    return answered(charged, answer, askedAtMs, TAKEN_BACK_US)
  }

  async function refund (decision: LimitDecision): Promise<boolean> {
    if (store.refund === undefined) return false
    const taken = StoreDecision.claimRefund(decision)
    if (taken === null) return false
    const elapsedMs = now() - taken.askedAtMs
    if (taken.charges.every(({ windowMs }) => windowMs <= elapsedMs)) return false
    try {
      await store.refund(taken.charges, taken.takenAtUs)
    } catch {
      return false
    }
    for (const charge of taken.charges) denied.forget(keyOf(charge))
    return true
  }

  /**
   * Caches the rules of each list of names: callers pass the same few lists again and again, and rules never change.
   */
  function appliedOf (where: string, names: readonly string[]): readonly AppliedRule[] {
    if (Array.isArray(names)) {
      for (const list of lists.get(names[0]) ?? NO_LISTS) if (isSameList(list.names, names)) return list.applied
    }
    verifyNames(where, names, options.rules, (where, message) => new RuleInvalid(`${where} ${message}`))
    const applied = names.flatMap(name => withBurst(options.rules.get(name)!))
    lists.set(names[0], [...lists.get(names[0]) ?? NO_LISTS, { names: [...names], applied }])
    return applied
  }

  return {
    take,
    cachedRefusal: (subject, applied) => (denied.isEmpty ? null : refusalOf(chargesOf(subject, applied), now())),
    charges,
    check: (who, names, cost) => check('check', who, names, cost),
    async enforce (who, names, cost) {
      const decision = await check('enforce', who, names, cost)
      if (!decision.allowed) throw rateLimitRefusal(decision, responseHeaders(decision, options.headers, null))
      return decision
    },
    refund
  }
}

export function limitOf ({ limit }: Pick<LimitRule, 'limit'>, principal: Pick<Principal, 'roles'>): number {
  if (typeof limit === 'number') return limit
  let largest = 0
  for (const role of principal.roles) {
    // A role named "default" or "constructor" must not match the fallback or an inherited property.
    if (role !== 'default' && Object.hasOwn(limit, role)) largest = Math.max(largest, limit[role]!)
  }
  return largest === 0 ? limit.default : largest
}

function keyOf ({ rule, subject }: Charge): string {
  return budgetKey(rule, subject)
}

/** The rules of one list of names. Lists are found by their first name. */
interface NamedRules {
  readonly names: readonly string[]
  readonly applied: readonly AppliedRule[]
}

const NO_LISTS: readonly NamedRules[] = []

/** Joining the names into a key would take longer than everything else that a check does before it calls the store. */
function isSameList (known: readonly string[], names: readonly string[]): boolean {
  if (known.length !== names.length) return false
  for (let i = 0; i < names.length; i++) if (known[i] !== names[i]) return false
  return true
}

import type { Charge, StoreAnswer } from './store/store.js'

export interface LimitDecision {
  readonly allowed: boolean
  /**
   * Exact time until the same request fits, in milliseconds rounded up; 0 when it was
   * allowed, Infinity when it never fits.
   */
  readonly retryAfterMs: number
  /** Names of the rules that are used up. */
  readonly violated: readonly string[]
  /** Whether this process decided alone, because the shared store was unreachable. */
  readonly degraded: boolean
  /** The state of each rule after the decision; empty when the request was admitted without being counted. */
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
  /** Milliseconds, rounded up, until more quota is available; 0 when nothing is used. */
  readonly resetMs: number
}

/** The units that an allowed decision has charged. */
export interface Refundable {
  readonly charges: readonly Charge[]
  readonly takenAtUs: NonNullable<StoreAnswer['takenAtUs']>
  /** When the decision was requested, by the limiter's clock. */
  readonly askedAtMs: number
}

/**
 * A decision that remembers what it has charged, for a refund. It does so in private fields: an entry in a `WeakMap`
 * for each decision costs more, in garbage collection, than the decision.
 */
export class StoreDecision implements LimitDecision {
  readonly allowed: boolean
  readonly retryAfterMs: number
  readonly violated: readonly string[]
  readonly degraded: boolean
  readonly quotas: readonly Quota[]
  readonly #charges: readonly Charge[]
  readonly #askedAtMs: number
  /** Undefined when there is nothing to refund, or the refund was made. */
  #takenAtUs: StoreAnswer['takenAtUs']

  constructor (charges: readonly Charge[], answer: StoreAnswer, askedAtMs: number) {
    const { allowed, degraded, states } = answer
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
    this.allowed = allowed
    this.retryAfterMs = toMs(retryUs)
    this.violated = violated
    this.degraded = degraded
    this.quotas = quotas
    this.#charges = charges
    this.#askedAtMs = askedAtMs
    this.#takenAtUs = allowed ? answer.takenAtUs : undefined
  }

  /** Returns what `decision` has charged, once; null when there is nothing to refund. */
  static claimRefund (decision: LimitDecision): Refundable | null {
    if (!(decision instanceof StoreDecision)) return null
    const takenAtUs = decision.#takenAtUs
    if (takenAtUs === undefined) return null
    decision.#takenAtUs = undefined
    return { charges: decision.#charges, takenAtUs, askedAtMs: decision.#askedAtMs }
  }
}

/** The decision for a request that no rule counts. */
export const UNCOUNTED: LimitDecision = Object.freeze({
  allowed: true,
  retryAfterMs: 0,
  violated: Object.freeze([]),
  degraded: false,
  quotas: Object.freeze([])
})

/** Refuses a request that costs more than a limit, without counting it: it would not fit even into an empty budget. */
export function refuseUnaffordable (charges: readonly Charge[]): LimitDecision | null {
  if (charges.every(isAffordable)) return null
  const quotas = charges
    .filter(charge => !isAffordable(charge))
    .map(({ rule, limit, windowMs }) => ({ rule, limit, windowMs, remaining: 0, resetMs: 0 }))
  return { allowed: false, retryAfterMs: Infinity, violated: quotas.map(({ rule }) => rule), degraded: false, quotas }
}

function isAffordable ({ cost, limit }: Charge): boolean {
  return cost <= limit
}

function toMs (microseconds: number): number {
  return Math.ceil(microseconds / 1000)
}

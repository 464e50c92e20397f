import type { StoreFailureMode } from './failover.js'
import type { LeaseTerms } from '../leases/leased-store.js'

/**
 * What keeps the logs of admitted requests. Every store is exact: in every window of a rule's length
 * it admits at most the rule's limit.
 */
export interface LimitStore {
  /**
   * Admits a request by all of its charges or counts it in none. A refused request leaves no trace, so a
   * client that keeps knocking is not locked out for longer. Answers synchronously when it needs no I/O. Each charge of a
   * request is for another budget.
   */
  take (charges: readonly Charge[]): StoreAnswer | Promise<StoreAnswer>
  /**
   * Takes back the units of an admitted request whose answer said `takenAtUs`. Charges whose units have left their window by then
   * lose nothing. Absent where it cannot be done.
   */
  refund? (charges: readonly Charge[], takenAtUs: number | readonly number[]): void | Promise<void>
}

/** One rule applied to one subject. */
export interface Charge {
  readonly rule: string
  /** Whose budget: see `subjectOf`. Together with the rule, the identity of one log. */
  readonly subject: string
  /** Units admitted in every window; a positive integer. */
  readonly limit: number
  readonly windowMs: number
  /** Units this request takes; a positive integer of at most `limit`. */
  readonly cost: number
  /** The largest limit that any subject of the rule has: decides on the form of the log. @default `limit` */
  readonly capacity?: number
  /** What happens while a shared store does not answer, in place of its own mode. */
  readonly onFailure?: StoreFailureMode | undefined
  /**
   * The rule whose log decides, when it is another's: a burst counts the same calls in a shorter window. Its charge comes right
   * after that of the rule, for the same subject, cost and capacity. @default `rule`
   */
  readonly log?: string | undefined
  /** Lets a leased store admit it from memory. @default every charge is decided by the log */
  readonly lease?: LeaseTerms | undefined
}

export function isBurst ({ log, rule }: Charge): boolean {
  return log !== undefined && log !== rule
}

/** A store that decides several requests at once, each as `take` would, in their order. */
export interface BatchStore {
  /** An error in place of an answer where only some requests could be decided. */
  takeAll (requests: ReadonlyArray<readonly Charge[]>): Promise<ReadonlyArray<StoreAnswer | Error>>
  /** As that of a {@link LimitStore}. */
  refund? (charges: readonly Charge[], takenAtUs: number | readonly number[]): void | Promise<void>
  /** What it last said of a log, for the time when it says nothing; null when it is not remembered. */
  lastKnown? (charge: Charge): LastKnown | null
}

export interface LastKnown {
  readonly used: number
  /** When it was said, by `performance.now()`. */
  readonly atMs: number
}

export interface StoreAnswer {
  readonly allowed: boolean
  /** Decided without the shared store, from less than the whole truth. */
  readonly degraded: boolean
  /** One for each charge, in their order; empty when the request was let through uncounted. */
  readonly states: readonly ChargeState[]
  /**
   * The stamp of the units by the store's clock, in microseconds; one for each charge where they are kept by several clocks.
   * Absent when they cannot be taken back.
   */
  readonly takenAtUs?: number | readonly number[]
}

/** A log after the decision. Times are in microseconds, because two stamps in one millisecond are common. */
export interface ChargeState {
  /** Units left; never negative. */
  readonly remaining: number
  /** Until the oldest stamp leaves the window; 0 when the log is empty. */
  readonly resetUs: number
  /** Until a request of the same cost fits; 0 when one fits now. Above 0 on a refusal marks a violated rule. */
  readonly retryUs: number
}

/** What operators ask of the logs. */
export interface OperableStore {
  /** How each log stands now, in their order. Takes nothing; `retryUs` is for a request of the charge's cost. */
  peek (charges: readonly Charge[]): Promise<readonly ChargeState[]>
  /** Lets each log begin anew. */
  reset (charges: readonly Charge[]): Promise<void>
}

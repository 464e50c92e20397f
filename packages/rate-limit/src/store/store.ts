import type { StoreFailureMode } from './failover.js'
import type { LeaseOptions } from '../leases/leased-store.js'

/**
 * Keeps the windows of admitted requests. Every store is exact: in every window of a
 * rule's length, it admits at most the rule's limit.
 */
export interface LimitStore {
  /**
   * Admits a request by all of its charges, or counts it in none. A refused request is not recorded, so a client that
   * keeps trying is not locked out for longer. Returns synchronously when no I/O is needed. Each charge of a request
   * must be for a different budget.
   */
  take (charges: readonly Charge[]): StoreAnswer | Promise<StoreAnswer>
  /**
   * Refunds the units of an admitted request, identified by `takenAtUs` of its answer. Has no effect on charges whose
   * units have already left their window. Absent when the store cannot refund.
   */
  refund? (charges: readonly Charge[], takenAtUs: number | readonly number[]): void | Promise<void>
}

/** One rule applied to one subject. */
export interface Charge {
  readonly rule: string
  /** The owner of the budget, see `subjectOf`. Rule and subject together identify one window. */
  readonly subject: string
  /** Units admitted in every window; a positive integer. */
  readonly limit: number
  readonly windowMs: number
  /** Units this request takes; a positive integer of at most `limit`. */
  readonly cost: number
  /** The largest limit of any subject of the rule. Determines the storage format of the window. @default `limit` */
  readonly capacity?: number
  /** What happens while a shared store does not answer; overrides the store's own mode. */
  readonly onFailure?: StoreFailureMode | undefined
  /**
   * The rule whose window decides. A burst uses the window of its rule, because it counts the same calls in a shorter
   * window. The charge of a burst must follow that of its rule directly, with the same subject, cost and capacity.
   * @default `rule`
   */
  readonly windowOf?: string | undefined
  /** Lets a leased store admit the charge from memory. @default the window decides every charge */
  readonly lease?: LeaseOptions | undefined
}

export function isBurst ({ windowOf, rule }: Charge): boolean {
  return windowOf !== undefined && windowOf !== rule
}

/** A store that decides several requests together, each as `take` would, in their order. */
export interface BatchStore {
  /** An error in place of an answer where only some requests could be decided. */
  takeAll (requests: ReadonlyArray<readonly Charge[]>): Promise<ReadonlyArray<StoreAnswer | Error>>
  /** Like `refund` of a {@link LimitStore}. */
  refund? (charges: readonly Charge[], takenAtUs: number | readonly number[]): void | Promise<void>
  /** The last known state of a window, for use while the store is unreachable; null when it is not remembered. */
  lastKnown? (charge: Charge): LastKnown | null
}

export interface LastKnown {
  readonly used: number
  /** When the state was received, by `performance.now()`. */
  readonly atMs: number
}

export interface StoreAnswer {
  readonly allowed: boolean
  /** Whether the decision was made without the shared store, from incomplete information. */
  readonly degraded: boolean
  /** One for each charge, in order; empty when the request was admitted without being counted. */
  readonly states: readonly ChargeState[]
  /**
   * The timestamp of the units by the store's clock, in microseconds; one per charge when they are stored under
   * several clocks. Absent when the units cannot be refunded.
   */
  readonly takenAtUs?: number | readonly number[]
}

/**
 * The state of a window after the decision. Times are in microseconds, because two units in one millisecond are common.
 */
export interface ChargeState {
  /** Units left; never negative. */
  readonly remaining: number
  /** Time until the oldest unit leaves the window; 0 when the window is empty. */
  readonly resetUs: number
  /**
   * Time until a request of the same cost fits; 0 when one fits now. In a refusal, a
   * value above 0 marks a violated rule.
   */
  readonly retryUs: number
}

/** Operations on the windows for operators. */
export interface OperableStore {
  /** The current state of each window, in order. Charges nothing; `retryUs` is for a request of the charge's cost. */
  peek (charges: readonly Charge[]): Promise<readonly ChargeState[]>
  /** Empties each window. */
  reset (charges: readonly Charge[]): Promise<void>
}

import { performance } from 'node:perf_hooks'
import { BoundedMap } from '../store/bounded-map.js'
import { PACKED_LIMIT } from '../redis/script.js'
import type { Charge, ChargeState, LimitStore, StoreAnswer } from '../store/store.js'

/** The lease options of a rule. */
export interface LeaseOptions {
  /** The largest part of what is left of the limit that one lease takes, above 0 and at most 0.5. @default 0.1 */
  readonly share?: number
  /** How long a lease lasts, in milliseconds, 5 to 500; never more than a tenth of the window. @default 100 */
  readonly ttlMs?: number
}

/** Units that a process may spend without a call to the store. */
export interface Grant {
  /** 0 when nothing could be leased. */
  readonly units: number
  /** The timestamp that identifies the units in their window. */
  readonly stamp: string
  /** Time until the oldest unit leaves the window, in microseconds. */
  readonly resetUs: number
}

export interface LeaseRequest {
  readonly leaseMs: number
  /** Units wanted; 0 to only return units. */
  readonly units: number
  readonly share: number
  /** Units of an earlier lease of the window that were certainly not spent; they are removed first. */
  readonly unspent: Pick<Grant, 'units' | 'stamp'> | null
}

/** Keeps the windows that leases are taken from. */
export interface LeaseStore {
  /** Atomically grants units that are left in a window to the caller. They count as spent at the end of the lease. */
  take (charge: Charge, request: LeaseRequest): Promise<Grant>
}

export interface LeasedStoreOptions {
  /** Decides the charges that no lease covers. */
  readonly store: LimitStore
  readonly leases: LeaseStore
  /** Maximum number of budgets remembered for each rule. @default 100000 */
  readonly maxKeys?: number
  /** Monotonic clock in milliseconds, for tests. @default performance.now */
  readonly now?: () => number
}

/** The state of one budget in this process. */
interface Budget {
  readonly leaseMs: number
  lease: Lease | null
  isRequesting: boolean
  /** No new lease is requested before this time, unless the last request was granted. */
  restUntilMs: number
  /** Units admitted here since `sinceMs`. `demand` is the number in one lease time before that. */
  spent: number
  sinceMs: number
  demand: number
}

interface Lease {
  /** The charge that the lease was requested for: a caller with a smaller limit might have been refused. */
  readonly charge: Charge
  units: number
  readonly stamp: string
  readonly untilMs: number
  readonly resetUs: number
  readonly expiry: NodeJS.Timeout
}

interface LeasedBudget extends Budget {
  lease: Lease
}

/** Units that one charge of a request has spent from a lease. */
interface Spent {
  readonly charge: Charge
  readonly budget: Budget
  readonly lease: Lease
  readonly state: ChargeState
}

/** With fewer units than this in one lease time, leasing would save nothing. */
const MIN_DEMAND = 8

/** The most units of one lease: Redis writes this many timestamps in about two milliseconds. */
const MAX_UNITS = 20_000

/** Safety margin, larger than the drift of two clocks during a lease. */
const MARGIN_MS = 1

/**
 * Spends leased units of hot budgets from memory before it calls another store. The process measures a lease from the
 * moment it sends the request, which is before the store starts to measure it. So the lease always ends in the process
 * first, even if the answer or the process was delayed.
 */
export class LeasedStore implements LimitStore {
  readonly #store: LimitStore
  readonly #leases: LeaseStore
  readonly #maxKeys: number
  readonly #now: () => number
  readonly #budgets = new Map<string, BoundedMap<Budget>>()
  /** The budgets that have a lease. */
  readonly #leased = new Set<Budget>()
  readonly #requests = new Set<Promise<void>>()
  #isClosed = false

  constructor ({ store, leases, maxKeys = 100_000, now = () => performance.now() }: LeasedStoreOptions) {
    this.#store = store
    this.#leases = leases
    this.#maxKeys = maxKeys
    this.#now = now
  }

  take (charges: readonly Charge[]): StoreAnswer | Promise<StoreAnswer> {
    if (!charges.some(isLeased)) return this.#store.take(charges)
    const nowMs = this.#now()
    let covered = 0
    const budgets: Array<Budget | null> = []
    for (const charge of charges) {
      const budget = isLeased(charge) ? this.#budgetOf(charge, nowMs) : null
      budgets.push(budget)
      if (covers(budget, charge, nowMs)) covered++
    }
    return covered === charges.length ? spendAll(charges, budgets) : this.#takeRest(charges, budgets, nowMs)
  }

  refund (charges: readonly Charge[], takenAtUs: number | readonly number[]): void | Promise<void> {
    return this.#store.refund?.(charges, takenAtUs)
  }

  /** Ends the lease of each budget for a reset: its remaining units are no longer spent in this process. */
  forget (charges: readonly Charge[]): void {
    for (const { rule, subject } of charges) {
      const budget = this.#budgets.get(rule)?.get(subject)
      if (budget === undefined) continue
      // A grant that is still in flight ends up in the deleted budget, which no request uses.
      this.#budgets.get(rule)!.delete(subject)
      void this.#giveBack(budget)
    }
  }

  /** Returns every lease and takes no new ones. Waits for Redis without a deadline. */
  async close (): Promise<void> {
    this.#isClosed = true
    await Promise.all(this.#requests)
    await Promise.all([...this.#leased].map(budget => this.#giveBack(budget)))
  }

  #budgetOf (charge: Charge, nowMs: number): Budget | null {
    let budgets = this.#budgets.get(charge.rule)
    if (budgets === undefined) this.#budgets.set(charge.rule, (budgets = new BoundedMap(Math.max(2, this.#maxKeys))))
    const known = budgets.get(charge.subject)
    if (known !== undefined) return known
    const leaseMs = leaseMsOf(charge)
    if (leaseMs === 0) return null
    const budget: Budget = {
      leaseMs,
      lease: null,
      isRequesting: false,
      restUntilMs: 0,
      spent: 0,
      sinceMs: nowMs,
      demand: 0
    }
    budgets.set(charge.subject, budget)
    return budget
  }

  /**
   * Makes one call for the charges that no lease covers. If it is refused, the leased units go back to their leases.
   */
  #takeRest (
    charges: readonly Charge[],
    budgets: ReadonlyArray<Budget | null>,
    nowMs: number
  ): StoreAnswer | Promise<StoreAnswer> {
    const spent = charges.map((charge, i) => {
      const budget = budgets[i]!
      return covers(budget, charge, nowMs)
        ? { charge, budget, lease: budget.lease, state: spend(budget, charge.cost) }
        : null
    })
    const rest = charges.filter((_, i) => spent[i] === null)
    const merge = (answer: StoreAnswer): StoreAnswer => {
      if (!answer.allowed) unspend(spent)
      else if (!answer.degraded) this.#renew(charges, budgets, spent)
      return merged(answer, spent)
    }
    const fail = (error: unknown): never => {
      unspend(spent)
      throw error
    }
    try {
      const answer = this.#store.take(rest)
      return answer instanceof Promise ? answer.then(merge, fail) : merge(answer)
    } catch (error) {
      return fail(error)
    }
  }

  /** Called after the store has admitted a request: it is reachable and probably has units left. */
  #renew (
    charges: readonly Charge[],
    budgets: ReadonlyArray<Budget | null>,
    spent: ReadonlyArray<Spent | null>
  ): void {
    const nowMs = this.#now()
    for (const [i, charge] of charges.entries()) {
      const budget = budgets[i]!
      if (budget === null || spent[i] !== null || this.#isClosed) continue
      budget.spent += charge.cost
      if (budget.isRequesting || budget.restUntilMs > nowMs || isLive(budget.lease, charge.cost, nowMs)) continue
      const wanted = wantedBy(budget, nowMs)
      if (wanted === 0) continue
      const request = this.#request(charge, budget, wanted, nowMs)
        .catch(() => {})
        .finally(() => { this.#requests.delete(request) })
      this.#requests.add(request)
    }
  }

  async #request (charge: Charge, budget: Budget, units: number, askedAtMs: number): Promise<void> {
    const { leaseMs } = budget
    const unspent = this.#end(budget)
    budget.isRequesting = true
    budget.restUntilMs = askedAtMs + leaseMs
    try {
      const share = charge.lease!.share ?? DEFAULT_SHARE
      const grant = await this.#leases.take(charge, { leaseMs, units, share, unspent })
      if (grant.units === 0) return
      const untilMs = askedAtMs + leaseMs - MARGIN_MS
      const expiry = setTimeout(() => { void this.#giveBack(budget) }, Math.max(0, untilMs - this.#now())).unref()
      budget.lease = { charge, units: grant.units, stamp: grant.stamp, untilMs, resetUs: grant.resetUs, expiry }
      budget.restUntilMs = 0
      this.#leased.add(budget)
    } finally {
      budget.isRequesting = false
    }
  }

  /** Ends a lease, so that no request can spend from it, and returns its remaining units. */
  #end (budget: Budget): LeaseRequest['unspent'] {
    const { lease } = budget
    if (lease === null) return null
    clearTimeout(lease.expiry)
    this.#leased.delete(budget)
    budget.lease = null
    return lease.units === 0 ? null : { units: lease.units, stamp: lease.stamp }
  }

  /** Not repeated when the outcome is unknown: the units expire with the window. */
  async #giveBack (budget: Budget): Promise<void> {
    const charge = budget.lease?.charge
    const unspent = this.#end(budget)
    if (unspent !== null) {
      await this.#leases.take(charge!, { leaseMs: budget.leaseMs, units: 0, share: 0, unspent }).catch(() => {})
    }
  }
}

function spendAll (charges: readonly Charge[], budgets: ReadonlyArray<Budget | null>): StoreAnswer {
  const states: ChargeState[] = []
  for (let i = 0; i < charges.length; i++) states.push(spend(budgets[i] as LeasedBudget, charges[i]!.cost))
  return { allowed: true, degraded: false, states }
}

/** Reports only the units of the lease as left: other processes may have spent units outside of it since. */
function spend (budget: LeasedBudget, cost: number): ChargeState {
  const { lease } = budget
  lease.units -= cost
  budget.spent += cost
  return { remaining: lease.units, resetUs: lease.resetUs, retryUs: 0 }
}

function unspend (all: ReadonlyArray<Spent | null>): void {
  for (const spent of all) {
    if (spent === null) continue
    spent.lease.units += spent.charge.cost
    spent.budget.spent -= spent.charge.cost
  }
}

/**
 * The answer for all charges: those that the store has decided, and those that were spent from leases. Leased units
 * cannot be refunded, so no unit of this request can: `takenAtUs` is left out.
 */
function merged (answer: StoreAnswer, all: ReadonlyArray<Spent | null>): StoreAnswer {
  const { allowed, degraded, states } = answer
  if (states.length === 0) return answer
  let next = 0
  return {
    allowed,
    degraded,
    states: all.map(spent => {
      if (spent === null) return states[next++]!
      return allowed ? spent.state : { ...spent.state, remaining: spent.lease.units }
    })
  }
}

/**
 * The units to lease: a quarter more than were admitted in one lease time, at the previous or the present pace,
 * whichever is higher, so that an even stream rarely runs out. The present pace is measured over at least a quarter
 * of the lease time; a shorter time may only show a burst.
 */
function wantedBy (budget: Budget, nowMs: number): number {
  const { leaseMs } = budget
  const elapsedMs = nowMs - budget.sinceMs
  if (elapsedMs >= leaseMs) {
    budget.demand = (budget.spent * leaseMs) / elapsedMs
    budget.spent = 0
    budget.sinceMs = nowMs
  }
  const { demand, spent } = budget
  if (Math.max(demand, spent) < MIN_DEMAND) return 0
  const pace = (spent * leaseMs) / Math.max(nowMs - budget.sinceMs, leaseMs / 4)
  return Math.min(MAX_UNITS, Math.ceil(1.25 * Math.max(demand, pace)))
}

const DEFAULT_SHARE = 0.1
const DEFAULT_TTL_MS = 100

/** The length of a lease; 0 when the limit is too small or the window too short for leases. */
function leaseMsOf ({ limit, capacity = limit, windowMs, lease }: Charge): number {
  if (capacity <= PACKED_LIMIT) return 0
  const leaseMs = Math.min(lease!.ttlMs ?? DEFAULT_TTL_MS, windowMs / 10)
  return leaseMs < 5 ? 0 : leaseMs
}

function isLeased ({ lease }: Charge): boolean {
  return lease !== undefined
}

function covers (budget: Budget | null, charge: Charge, nowMs: number): budget is LeasedBudget {
  return budget !== null && isLive(budget.lease, charge.cost, nowMs) && budget.lease.charge.limit <= charge.limit
}

function isLive (lease: Lease | null, cost: number, nowMs: number): lease is Lease {
  return lease !== null && nowMs < lease.untilMs && lease.units >= cost
}

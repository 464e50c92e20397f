import { performance } from 'node:perf_hooks'
import { BoundedMap } from '../store/bounded-map.js'
import { PACKED_LIMIT } from '../redis/script.js'
import type { Charge, ChargeState, LimitStore, StoreAnswer } from '../store/store.js'

/** The lease options of a rule. */
export interface LeaseTerms {
  /** The largest part of what is left of the limit that one lease takes, above 0 and at most 0.5. @default 0.1 */
  readonly share?: number
  /** How long a lease lasts, in milliseconds, 5 to 500; never more than a tenth of the window. @default 100 */
  readonly ttlMs?: number
}

/** Units that a process may spend without a call to the store. */
export interface Grant {
  /** 0 when nothing could be leased. */
  readonly units: number
  /** The timestamp that identifies the units in their log. */
  readonly stamp: string
  /** Time until the oldest unit of the log leaves the window, in microseconds. */
  readonly resetUs: number
}

export interface LeaseRequest {
  readonly leaseMs: number
  /** Units wanted; 0 to only return units. */
  readonly units: number
  readonly share: number
  /** Units of an earlier lease of the log that were certainly not spent; they are removed first. */
  readonly unspent: Pick<Grant, 'units' | 'stamp'> | null
}

/** Keeps the logs that leases are taken from. */
export interface LeaseBook {
  /** Atomically grants units that are left in a log to the caller. They count as spent at the end of the lease. */
  take (charge: Charge, request: LeaseRequest): Promise<Grant>
}

export interface LeasedStoreOptions {
  /** Decides the charges that no lease covers. */
  readonly store: LimitStore
  readonly book: LeaseBook
  /** Maximum number of budgets remembered for each rule. @default 100000 */
  readonly maxKeys?: number
  /** Monotonic clock in milliseconds, for tests. @default performance.now */
  readonly now?: () => number
}

/** A store that spends leased units before it calls another store. */
export interface LeasedStore extends LimitStore {
  /** Ends the lease of each budget for a reset: its remaining units are no longer spent in this process. */
  forget (charges: readonly Charge[]): void
  /** Returns every lease and takes no new ones. Waits for the log without a deadline. */
  close (): Promise<void>
}

/** The state of one budget in this process. */
interface Budget {
  readonly leaseMs: number
  lease: Lease | null
  isAsking: boolean
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

/** With fewer units than this in one lease time, leasing would save nothing. */
const MIN_DEMAND = 8

/** The most units of one lease: Redis writes this many timestamps in about two milliseconds. */
const MAX_UNITS = 20_000

/** Safety margin, larger than the drift of two clocks during a lease. */
const MARGIN_MS = 1

/**
 * Spends units of hot budgets from memory. The process measures a lease from the moment
 * it sends the request, which is before the store starts to measure it. So the lease
 * always ends in the process first, even if the answer or the process was delayed.
 */
export function createLeasedStore ({
  store,
  book,
  maxKeys = 100_000,
  now = () => performance.now()
}: LeasedStoreOptions): LeasedStore {
  const rules = new Map<string, BoundedMap<Budget>>()
  const leased = new Set<Budget>()
  const asking = new Set<Promise<void>>()
  let isClosed = false

  function take (charges: readonly Charge[]): StoreAnswer | Promise<StoreAnswer> {
    if (!charges.some(isLeased)) return store.take(charges)
    const nowMs = now()
    let covered = 0
    const budgets: Array<Budget | null> = []
    for (const charge of charges) {
      const budget = isLeased(charge) ? budgetOf(charge, nowMs) : null
      budgets.push(budget)
      if (covers(budget, charge, nowMs)) covered++
    }
    return covered === charges.length ? spendAll(charges, budgets) : takeRest(charges, budgets, nowMs)
  }

  function budgetOf (charge: Charge, nowMs: number): Budget | null {
    let budgets = rules.get(charge.rule)
    if (budgets === undefined) rules.set(charge.rule, (budgets = new BoundedMap(Math.max(2, maxKeys))))
    const known = budgets.get(charge.subject)
    if (known !== undefined) return known
    const leaseMs = leaseMsOf(charge)
    if (leaseMs === 0) return null
    const budget: Budget = {
      leaseMs,
      lease: null,
      isAsking: false,
      restUntilMs: 0,
      spent: 0,
      sinceMs: nowMs,
      demand: 0
    }
    budgets.set(charge.subject, budget)
    return budget
  }

  function spendAll (charges: readonly Charge[], budgets: ReadonlyArray<Budget | null>): StoreAnswer {
    const states: ChargeState[] = []
    for (let i = 0; i < charges.length; i++) states.push(spend(budgets[i]!, charges[i]!.cost))
    return { allowed: true, degraded: false, states }
  }

  /**
   * Makes one call for the charges that no lease covers. If it is refused, the leased units go back to their leases.
   */
  function takeRest (
    charges: readonly Charge[],
    budgets: ReadonlyArray<Budget | null>,
    nowMs: number
  ): StoreAnswer | Promise<StoreAnswer> {
    const spentOf = charges.map((charge, i) =>
      covers(budgets[i]!, charge, nowMs) ? { lease: budgets[i]!.lease!, state: spend(budgets[i]!, charge.cost) } : null
    )
    const rest = charges.filter((_, i) => spentOf[i] === null)
    const unspend = (): void => {
      for (const [i, spent] of spentOf.entries()) {
        if (spent === null) continue
        spent.lease.units += charges[i]!.cost
        budgets[i]!.spent -= charges[i]!.cost
      }
    }
    const merge = (answer: StoreAnswer): StoreAnswer => {
      if (!answer.allowed) unspend()
      else if (!answer.degraded) renew(charges, budgets, spentOf)
      if (answer.states.length === 0) return answer
      let next = 0
      // Leased units cannot be refunded, so no unit of this request can: `takenAtUs` is left out.
      const { allowed, degraded } = answer
      return {
        allowed,
        degraded,
        states: spentOf.map((spent, i) =>
          spent === null
            ? answer.states[next++]!
            : answer.allowed
              ? spent.state
              : { ...spent.state, remaining: spent.lease.units }
        )
      }
    }
    try {
      const answer = store.take(rest)
      return answer instanceof Promise
        ? answer.then(merge, (error: unknown) => {
          unspend()
          throw error
        })
        : merge(answer)
    } catch (error) {
      unspend()
      throw error
    }
  }

  /** Reports only the units of the lease as left: other processes may have spent units outside of it since. */
  function spend (budget: Budget, cost: number): ChargeState {
    const lease = budget.lease!
    lease.units -= cost
    budget.spent += cost
    return { remaining: lease.units, resetUs: lease.resetUs, retryUs: 0 }
  }

  /** Called after the store has admitted a request: it is reachable and probably has units left. */
  function renew (
    charges: readonly Charge[],
    budgets: ReadonlyArray<Budget | null>,
    spentOf: readonly unknown[]
  ): void {
    const nowMs = now()
    for (const [i, charge] of charges.entries()) {
      const budget = budgets[i]!
      if (budget === null || spentOf[i] !== null || isClosed) continue
      budget.spent += charge.cost
      if (budget.isAsking || budget.restUntilMs > nowMs || isLive(budget.lease, charge.cost, nowMs)) continue
      const wanted = wantedBy(budget, nowMs)
      if (wanted === 0) continue
      const question = ask(charge, budget, wanted, nowMs)
        .catch(() => {})
        .finally(() => {
          asking.delete(question)
        })
      asking.add(question)
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

  async function ask (charge: Charge, budget: Budget, units: number, askedAtMs: number): Promise<void> {
    const { leaseMs } = budget
    const unspent = end(budget)
    budget.isAsking = true
    budget.restUntilMs = askedAtMs + leaseMs
    try {
      const grant = await book.take(charge, { leaseMs, units, share: charge.lease!.share ?? DEFAULT_SHARE, unspent })
      if (grant.units === 0) return
      const untilMs = askedAtMs + leaseMs - MARGIN_MS
      const expiry = setTimeout(
        () => {
          void giveBack(budget)
        },
        Math.max(0, untilMs - now())
      ).unref()
      budget.lease = { charge, units: grant.units, stamp: grant.stamp, untilMs, resetUs: grant.resetUs, expiry }
      budget.restUntilMs = 0
      leased.add(budget)
    } finally {
      budget.isAsking = false
    }
  }

  /** Ends a lease, so that no request can spend from it, and returns its remaining units. */
  function end (budget: Budget): LeaseRequest['unspent'] {
    const { lease } = budget
    if (lease === null) return null
    clearTimeout(lease.expiry)
    leased.delete(budget)
    budget.lease = null
    return lease.units === 0 ? null : { units: lease.units, stamp: lease.stamp }
  }

  /** Not repeated when the outcome is unknown: the units expire with the window. */
  async function giveBack (budget: Budget): Promise<void> {
    const charge = budget.lease?.charge
    const unspent = end(budget)
    if (unspent !== null) {
      await book.take(charge!, { leaseMs: budget.leaseMs, units: 0, share: 0, unspent }).catch(() => {})
    }
  }

  return {
    take,
    refund: (charges, takenAtUs) => store.refund?.(charges, takenAtUs),
    forget (charges) {
      for (const { rule, subject } of charges) {
        const budget = rules.get(rule)?.get(subject)
        if (budget === undefined) continue
        // A grant that is still in flight ends up in the deleted budget, which no request uses.
        rules.get(rule)!.delete(subject)
        void giveBack(budget)
      }
    },
    async close () {
      isClosed = true
      await Promise.all(asking)
      await Promise.all([...leased].map(giveBack))
    }
  }
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

function covers (budget: Budget | null, charge: Charge, nowMs: number): boolean {
  return budget !== null && isLive(budget.lease, charge.cost, nowMs) && budget.lease.charge.limit <= charge.limit
}

function isLive (lease: Lease | null, cost: number, nowMs: number): lease is Lease {
  return lease !== null && nowMs < lease.untilMs && lease.units >= cost
}

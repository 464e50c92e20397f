import { performance } from 'node:perf_hooks'
import type { Charge, ChargeState, LimitStore, OperableStore, StoreAnswer } from './store.js'

export interface MemoryStoreOptions {
  /** Maximum number of logs; beyond it, the least recently used log is forgotten. @default 100000 */
  readonly maxKeys?: number
  /**
   * Monotonic clock in milliseconds. With the wall clock, a clock step would empty or lock every window.
   * @default performance.now
   */
  readonly now?: () => number
}

/** Keeps the logs in this process. Exact for one process; several processes each have their own budgets. */
export function createMemoryStore (options: MemoryStoreOptions = {}): LimitStore & OperableStore {
  const { take, refund, peek, reset } = createLocalLogs(options)
  return { take, refund, peek, reset }
}

/** The memory store with the operations that the local fallback needs. */
export interface LocalLogs extends OperableStore {
  take (charges: readonly Charge[]): StoreAnswer
  refund (charges: readonly Charge[], takenAtUs: number | readonly number[]): void
  /** Units inside the window. */
  units (charge: Charge): number
  /** Removes as many units as the charge costs, the oldest first. */
  drop (charge: Charge): void
}

export function createLocalLogs (options: MemoryStoreOptions): LocalLogs {
  const maxKeys = options.maxKeys ?? 100_000
  const now = options.now ?? (() => performance.now())
  const clockUs = (): number => Math.floor(now() * 1000)
  const logs = new Map<string, Log>()
  // Keeps the order of use. The order of the Map is not enough: finding its first entry steps over all entries
  // deleted before.
  const recency = new Recency()

  function take (charges: readonly Charge[]): StoreAnswer {
    const nowUs = clockUs()
    const found = charges.map(charge => find(charge, nowUs))
    const allowed = charges.every((charge, i) => (found[i]?.length ?? 0) + charge.cost <= charge.limit)
    const states = charges.map((charge, i) =>
      stateOf(charge, allowed ? record(charge, found[i], nowUs) : found[i], nowUs)
    )
    // Only now: before the decision it could drop a log of this request.
    if (allowed) for (const log of found) if (log === undefined) forgetSome(nowUs)
    return { allowed, degraded: false, states, takenAtUs: nowUs }
  }

  function find (charge: Charge, nowUs: number): Log | undefined {
    const log = logs.get(keyOf(charge))
    log?.expire(nowUs - charge.windowMs * 1000)
    return log
  }

  function record (charge: Charge, known: Log | undefined, nowUs: number): Log {
    const log = known ?? new Log(keyOf(charge))
    if (known === undefined) logs.set(log.key, log)
    else recency.remove(log)
    recency.append(log)
    for (let unit = 0; unit < charge.cost; unit++) log.push(nowUs)
    log.idleAfterUs = nowUs + charge.windowMs * 1000
    return log
  }

  /**
   * Called once for each new log. Dropping up to two expired logs each time keeps the
   * map near its live size without a timer.
   */
  function forgetSome (nowUs: number): void {
    for (let looked = 0; looked < 2 && recency.oldest !== null && recency.oldest.idleAfterUs <= nowUs; looked++) {
      forget(recency.oldest)
    }
    if (logs.size > maxKeys) forget(recency.oldest!)
  }

  function forget (log: Log): void {
    recency.remove(log)
    logs.delete(log.key)
  }

  return {
    take,
    refund (charges, takenAtUs) {
      const nowUs = clockUs()
      for (const [i, charge] of charges.entries()) {
        const stamp = typeof takenAtUs === 'number' ? takenAtUs : takenAtUs[i]!
        find(charge, nowUs)?.remove(stamp, charge.cost)
      }
    },
    units: charge => find(charge, clockUs())?.length ?? 0,
    drop: charge => { find(charge, clockUs())?.drop(charge.cost) },
    async peek (charges) {
      const nowUs = clockUs()
      return charges.map(charge => stateOf(charge, find(charge, nowUs), nowUs))
    },
    async reset (charges) {
      for (const charge of charges) {
        const log = logs.get(keyOf(charge))
        if (log !== undefined) forget(log)
      }
    }
  }
}

// Rule names contain no space, so different pairs have different keys.
export function keyOf (charge: Charge): string {
  return `${charge.rule} ${charge.subject}`
}

function stateOf ({ limit, windowMs, cost }: Charge, log: Log | undefined, nowUs: number): ChargeState {
  if (log === undefined || log.length === 0) return { remaining: limit, resetUs: 0, retryUs: 0 }
  const leavesInUs = (index: number): number => log.at(index) + windowMs * 1000 - nowUs
  const over = log.length + cost - limit
  return {
    remaining: Math.max(0, limit - log.length),
    resetUs: leavesInUs(0),
    retryUs: over > 0 ? leavesInUs(over - 1) : 0
  }
}

/**
 * Timestamps of admitted units, oldest first, in a ring buffer that grows with use: a
 * large limit costs no memory until it is used.
 */
class Log {
  length = 0
  /** The time when the newest timestamp has left the window and the log may be forgotten. */
  idleAfterUs = 0
  readonly key: string
  older: Log | null = null
  newer: Log | null = null
  private stamps = new Float64Array(4)
  private head = 0

  constructor (key: string) {
    this.key = key
  }

  at (index: number): number {
    return this.stamps[(this.head + index) % this.stamps.length]!
  }

  push (stamp: number): void {
    if (this.length === this.stamps.length) this.grow()
    this.stamps[(this.head + this.length) % this.stamps.length] = stamp
    this.length++
  }

  /** Drops timestamps up to and including this time: a unit counts for exactly one window, not a microsecond longer. */
  expire (untilUs: number): void {
    while (this.length > 0 && this.at(0) <= untilUs) this.drop(1)
  }

  drop (units: number): void {
    const dropped = Math.min(units, this.length)
    this.head = (this.head + dropped) % this.stamps.length
    this.length -= dropped
  }

  /** Removes at most this many timestamps that are equal to `stamp`. */
  remove (stamp: number, units: number): void {
    const kept = Array.from({ length: this.length }, (_, index) => this.at(index))
    const first = kept.indexOf(stamp)
    if (first === -1) return
    let last = first
    while (last < kept.length && last - first < units && kept[last] === stamp) last++
    kept.splice(first, last - first)
    for (const [index, value] of kept.entries()) this.stamps[(this.head + index) % this.stamps.length] = value
    this.length = kept.length
  }

  private grow (): void {
    const larger = new Float64Array(this.stamps.length * 2)
    for (let i = 0; i < this.length; i++) larger[i] = this.at(i)
    this.stamps = larger
    this.head = 0
  }
}

/** The logs from the least to the most recently used. */
class Recency {
  oldest: Log | null = null
  private newest: Log | null = null

  append (log: Log): void {
    log.older = this.newest
    log.newer = null
    if (this.newest === null) this.oldest = log
    else this.newest.newer = log
    this.newest = log
  }

  remove ({ older, newer }: Log): void {
    if (older === null) this.oldest = newer
    else older.newer = newer
    if (newer === null) this.newest = older
    else newer.older = older
  }
}

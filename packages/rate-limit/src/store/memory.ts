import { performance } from 'node:perf_hooks'
import type { Charge, ChargeState, LimitStore, OperableStore, StoreAnswer } from './store.js'

export interface MemoryStoreOptions {
  /** Maximum number of windows; beyond it, the least recently used window is forgotten. @default 100000 */
  readonly maxKeys?: number
  /**
   * Monotonic clock in milliseconds. With the wall clock, a clock step would empty or lock every window.
   * @default performance.now
   */
  readonly now?: () => number
}

/** Keeps the windows in this process. Exact for one process; several processes each have their own budgets. */
export function createMemoryStore (options: MemoryStoreOptions = {}): LimitStore & OperableStore {
  const { take, refund, peek, reset } = createLocalWindows(options)
  return { take, refund, peek, reset }
}

/** The memory store with the operations that the local fallback needs. */
export interface LocalWindows extends OperableStore {
  take (charges: readonly Charge[]): StoreAnswer
  refund (charges: readonly Charge[], takenAtUs: number | readonly number[]): void
  /** Units inside the window. */
  units (charge: Charge): number
  /** Removes as many units as the charge costs, the oldest first. */
  drop (charge: Charge): void
}

export function createLocalWindows (options: MemoryStoreOptions): LocalWindows {
  const maxKeys = options.maxKeys ?? 100_000
  const now = options.now ?? (() => performance.now())
  const clockUs = (): number => Math.floor(now() * 1000)
  const windows = new Map<string, Window>()
  // Keeps the order of use. The order of the Map is not enough: finding its first entry steps over all entries
  // deleted before.
  const recency = new Recency()

  function take (charges: readonly Charge[]): StoreAnswer {
    const nowUs = clockUs()
    const found: Array<Window | undefined> = []
    let allowed = true
    for (const charge of charges) {
      const window = find(charge, nowUs)
      found.push(window)
      if ((window === undefined ? 0 : window.length) + charge.cost > charge.limit) allowed = false
    }
    const states: ChargeState[] = []
    let created = 0
    for (let i = 0; i < charges.length; i++) {
      const charge = charges[i]!
      if (allowed && found[i] === undefined) created++
      states.push(stateOf(charge, allowed ? record(charge, found[i], nowUs) : found[i], nowUs))
    }
    // Only now: before the decision it could drop a window of this request.
    for (; created > 0; created--) forgetSome(nowUs)
    return { allowed, degraded: false, states, takenAtUs: nowUs }
  }

  function find (charge: Charge, nowUs: number): Window | undefined {
    const window = windows.get(keyOf(charge))
    window?.expire(nowUs - charge.windowMs * 1000)
    return window
  }

  function record (charge: Charge, known: Window | undefined, nowUs: number): Window {
    const window = known ?? new Window(keyOf(charge))
    if (known === undefined) {
      windows.set(window.key, window)
      recency.append(window)
    } else {
      recency.moveToEnd(window)
    }
    for (let unit = 0; unit < charge.cost; unit++) window.push(nowUs)
    window.idleAfterUs = nowUs + charge.windowMs * 1000
    return window
  }

  /**
   * Called once for each new window. Dropping up to two expired windows each time keeps the
   * map near its live size without a timer.
   */
  function forgetSome (nowUs: number): void {
    for (let looked = 0; looked < 2 && recency.oldest !== null && recency.oldest.idleAfterUs <= nowUs; looked++) {
      forget(recency.oldest)
    }
    if (windows.size > maxKeys) forget(recency.oldest!)
  }

  function forget (window: Window): void {
    recency.remove(window)
    windows.delete(window.key)
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
        const window = windows.get(keyOf(charge))
        if (window !== undefined) forget(window)
      }
    }
  }
}

// Rule names contain no space, so different pairs have different keys.
export function keyOf (charge: Charge): string {
  return `${charge.rule} ${charge.subject}`
}

function stateOf ({ limit, windowMs, cost }: Charge, window: Window | undefined, nowUs: number): ChargeState {
  if (window === undefined || window.length === 0) return { remaining: limit, resetUs: 0, retryUs: 0 }
  const leavesInUs = (index: number): number => window.at(index) + windowMs * 1000 - nowUs
  const over = window.length + cost - limit
  return {
    remaining: Math.max(0, limit - window.length),
    resetUs: leavesInUs(0),
    retryUs: over > 0 ? leavesInUs(over - 1) : 0
  }
}

/**
 * Timestamps of admitted units, oldest first, in a ring buffer that grows with use: a
 * large limit costs no memory until it is used.
 */
class Window {
  length = 0
  /** The time when the newest timestamp has left and the window may be forgotten. */
  idleAfterUs = 0
  readonly key: string
  older: Window | null = null
  newer: Window | null = null
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

/** The windows from the least to the most recently used. */
class Recency {
  oldest: Window | null = null
  private newest: Window | null = null

  append (window: Window): void {
    window.older = this.newest
    window.newer = null
    if (this.newest === null) this.oldest = window
    else this.newest.newer = window
    this.newest = window
  }

  moveToEnd (window: Window): void {
    if (this.newest === window) return
    this.remove(window)
    this.append(window)
  }

  remove ({ older, newer }: Window): void {
    if (older === null) this.oldest = newer
    else older.newer = newer
    if (newer === null) this.newest = older
    else newer.older = older
  }
}

import { performance } from 'node:perf_hooks'
import type { Charge, ChargeState, LimitStore, OperableStore, StoreAnswer } from './store.js'

export interface MemoryStoreOptions {
  /** Logs kept at most; beyond it the least recently used one is forgotten. @default 100000 */
  readonly maxKeys?: number
  /** Monotonic clock in milliseconds; the wall clock would let a clock step open or lock every window. @default performance.now */
  readonly now?: () => number
}

/** Keeps the logs in this process. Exact for one process; several have a budget each. */
export function createMemoryStore (options: MemoryStoreOptions = {}): LimitStore & OperableStore {
  const maxKeys = options.maxKeys ?? 100_000
  const now = options.now ?? (() => performance.now())
  // A Map iterates in the order of insertion, so re-inserting on use makes its first entry the least recently used.
  const logs = new Map<string, Log>()

  function take (charges: readonly Charge[]): StoreAnswer {
    const nowUs = Math.floor(now() * 1000)
    const found = charges.map(charge => {
      const log = logs.get(keyOf(charge))
      log?.expire(nowUs - charge.windowMs * 1000)
      return log
    })
    const allowed = charges.every((charge, i) => (found[i]?.length ?? 0) + charge.cost <= charge.limit)
    return {
      allowed,
      degraded: false,
      states: charges.map((charge, i) => {
        const log = allowed ? record(charge, found[i], nowUs) : found[i]
        return stateOf(charge, log, nowUs)
      })
    }
  }

  function record (charge: Charge, known: Log | undefined, nowUs: number): Log {
    const key = keyOf(charge)
    const log = known ?? new Log()
    if (known === undefined) forgetSome(nowUs)
    else logs.delete(key)
    logs.set(key, log)
    for (let unit = 0; unit < charge.cost; unit++) log.push(nowUs)
    log.idleAfterUs = nowUs + charge.windowMs * 1000
    return log
  }

  /** Called once for each new log: dropping up to two that have run empty keeps the map near its live size without a timer. */
  function forgetSome (nowUs: number): void {
    let looked = 0
    for (const [key, log] of logs) {
      if (log.idleAfterUs > nowUs || looked++ === 2) break
      logs.delete(key)
    }
    if (logs.size < maxKeys) return
    const { value: oldest } = logs.keys().next()
    if (oldest !== undefined) logs.delete(oldest)
  }

  return {
    take,
    async peek (charges) {
      const nowUs = Math.floor(now() * 1000)
      return charges.map(charge => {
        const log = logs.get(keyOf(charge))
        log?.expire(nowUs - charge.windowMs * 1000)
        return stateOf(charge, log, nowUs)
      })
    },
    async reset (charges) {
      for (const charge of charges) logs.delete(keyOf(charge))
    }
  }
}

// Rule names hold no space, so the two cannot run into each other.
function keyOf (charge: Charge): string {
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

/** Stamps of admitted units, oldest first, in a ring that grows with use: a large limit costs nothing until it is used. */
class Log {
  length = 0
  /** When the newest stamp has left the window and the log may be forgotten. */
  idleAfterUs = 0
  private stamps = new Float64Array(4)
  private head = 0

  at (index: number): number {
    return this.stamps[(this.head + index) % this.stamps.length]!
  }

  push (stamp: number): void {
    if (this.length === this.stamps.length) this.grow()
    this.stamps[(this.head + this.length) % this.stamps.length] = stamp
    this.length++
  }

  /** Drops what is at or before the time: a stamp counts for exactly one window, not a microsecond more. */
  expire (untilUs: number): void {
    while (this.length > 0 && this.at(0) <= untilUs) {
      this.head = (this.head + 1) % this.stamps.length
      this.length--
    }
  }

  private grow (): void {
    const larger = new Float64Array(this.stamps.length * 2)
    for (let i = 0; i < this.length; i++) larger[i] = this.at(i)
    this.stamps = larger
    this.head = 0
  }
}

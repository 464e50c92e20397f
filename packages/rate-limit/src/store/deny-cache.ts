import { BoundedMap } from './bounded-map.js'
import type { Charge } from './store.js'

interface Denial {
  readonly untilMs: number
  readonly askAgainMs: number
  readonly limit: number
  readonly cost: number
}

/**
 * Remembers until when a budget is known to be used up, so that an offender is refused without asking the
 * store, before any credential is looked at. An entry never refuses a request the store would admit: stamps leave
 * a log only by time, and it speaks for requests of the same limit and cost only. Bounded: beyond it the entries
 * least recently used are forgotten, which only costs a store call.
 */
export class DenyCache {
  private readonly until: BoundedMap<Denial>

  constructor (maxKeys: number) {
    this.until = new BoundedMap(maxKeys)
  }

  /** Whether nothing is remembered, so that nothing need be looked up. */
  get isEmpty (): boolean {
    return this.until.isEmpty
  }

  /**
   * @param untilMs on the clock that is passed to `remainingMs`
   * @param askAgainMs when to ask the store again although it is not over, on the same clock
   */
  note (key: string, { limit, cost }: Charge, untilMs: number, askAgainMs: number = untilMs): void {
    this.until.set(key, { untilMs, askAgainMs, limit, cost })
  }

  /** After a reset: the store is asked again. */
  forget (key: string): void {
    this.until.delete(key)
  }

  /** Milliseconds until the budget has room again; 0 when it may have now. */
  remainingMs (key: string, { limit, cost }: Charge, nowMs: number): number {
    const denial = this.until.get(key)
    if (denial === undefined) return 0
    if (denial.askAgainMs > nowMs) return denial.limit === limit && denial.cost === cost ? denial.untilMs - nowMs : 0
    this.until.delete(key)
    return 0
  }
}

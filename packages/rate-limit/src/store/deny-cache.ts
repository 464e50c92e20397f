import { BoundedMap } from './bounded-map.js'
import type { Charge } from './store.js'

interface Denial {
  readonly untilMs: number
  readonly askAgainMs: number
  readonly limit: number
  readonly cost: number
}

/**
 * Remembers until when a budget is used up, so that a refused client is refused again without a call to the store and
 * before its credential is checked. An entry never refuses a request that the store would admit: timestamps leave a
 * window only with time, and an entry applies only to requests with the same limit and cost. When the cache is full,
 * the least recently used entries are forgotten, which only costs a call to the store.
 */
export class DenyCache {
  private readonly until: BoundedMap<Denial>

  constructor (maxKeys: number) {
    this.until = new BoundedMap(maxKeys)
  }

  /** Whether the cache is empty, so that lookups can be skipped. */
  get isEmpty (): boolean {
    return this.until.isEmpty
  }

  /**
   * @param untilMs on the clock that is passed to `remainingMs`
   * @param askAgainMs when to call the store again although the refusal is not over, on the same clock
   */
  note (key: string, { limit, cost }: Charge, untilMs: number, askAgainMs: number = untilMs): void {
    this.until.set(key, { untilMs, askAgainMs, limit, cost })
  }

  /** Removes an entry after a reset or a refund, so that the store is called again. */
  forget (key: string): void {
    this.until.delete(key)
  }

  /** Milliseconds until the request fits again; 0 when it may fit now. */
  remainingMs (key: string, { limit, cost }: Charge, nowMs: number): number {
    const denial = this.until.get(key)
    if (denial === undefined) return 0
    if (denial.askAgainMs > nowMs) return denial.limit === limit && denial.cost === cost ? denial.untilMs - nowMs : 0
    this.until.delete(key)
    return 0
  }
}

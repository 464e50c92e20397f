import { BoundedMap } from './bounded-map.js'

/**
 * Remembers until when a budget is known to be used up, so that an offender is refused without asking the
 * store, before any credential is looked at. An entry never refuses a request the store would admit: stamps leave
 * a log only by time. Bounded: beyond it the entries least recently used are forgotten, which only costs a store call.
 */
export class DenyCache {
  private readonly until: BoundedMap<number>

  constructor (maxKeys: number) {
    this.until = new BoundedMap(maxKeys)
  }

  /** @param untilMs on the clock that is passed to `remainingMs` */
  note (key: string, untilMs: number): void {
    this.until.set(key, untilMs)
  }

  /** After a reset: the store is asked again. */
  forget (key: string): void {
    this.until.delete(key)
  }

  /** Milliseconds until the budget has room again; 0 when it may have now. */
  remainingMs (key: string, nowMs: number): number {
    const untilMs = this.until.get(key)
    if (untilMs === undefined) return 0
    if (untilMs > nowMs) return untilMs - nowMs
    this.until.delete(key)
    return 0
  }
}

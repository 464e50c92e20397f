import { performance } from 'node:perf_hooks'

/**
 * Keeps callers from waiting for a store that has just failed several times in
 * succession. All failures in one turn of the event loop count as one, however many
 * calls they belong to: simultaneous failures are one observation of the store.
 */
export interface Breaker {
  /**
   * `closed`: call the store. `open`: do not. `probe`: call it to test it, while all other callers still get `open`,
   * until the call is answered or the next probe is due.
   */
  enter (): 'closed' | 'open' | 'probe'
  succeeded (): void
  failed (): void
}

/** Milliseconds between a failure and the next probe. */
export const OPEN_FOR_MS: number = 1000
const FAILURES_TO_OPEN = 3

export function createBreaker (): Breaker {
  let failures = 0
  let closedAt = 0
  let isCounted = false
  return {
    enter () {
      if (failures < FAILURES_TO_OPEN) return 'closed'
      const now = performance.now()
      if (now < closedAt) return 'open'
      closedAt = now + OPEN_FOR_MS
      return 'probe'
    },
    succeeded () { failures = 0 },
    failed () {
      if (!isCounted) {
        isCounted = true
        failures++
        setImmediate(() => { isCounted = false })
      }
      closedAt = performance.now() + OPEN_FOR_MS
    }
  }
}

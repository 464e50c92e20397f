import { performance } from 'node:perf_hooks'

/**
 * Keeps callers from waiting for what has just failed several times in succession. What fails in one turn of the event
 * loop counts once, however many calls of however many requests it was: one moment says no more about a store.
 */
export interface Breaker {
  /** `closed`: ask. `open`: do not. `probe`: ask, for all the others; they keep away until the answer is there or its time is up. */
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

import type { CircuitBreakerOptions } from '@marty/core'

/** Milliseconds between a failure of Redis and the next probe. */
export const RESET_MS = 1000

/** All failures in one turn of the event loop count as one, because the requests of a batch fail together. */
export const BREAKER: CircuitBreakerOptions = { threshold: 3, resetMs: RESET_MS, countsTurns: true }

import { MediaMtxUnavailable } from './errors.js'

export interface BreakerOptions {
  /** Consecutive failures that open the circuit. @default 5 */
  readonly threshold?: number
  /** How long calls are refused before a trial call is let through, in milliseconds. @default 1000 */
  readonly resetMs?: number
  readonly now?: () => number
}

/** Refuses calls immediately while the media server is known to be down, instead of waiting for a timeout each time. */
export interface Breaker {
  readonly state: 'closed' | 'open' | 'half-open'
  run<T> (call: () => Promise<T>): Promise<T>
  /** Closes the circuit and clears the failures. Call it when the process is known to be running again. */
  reset (): void
}

/** Only `MARTY_CAMERA_MEDIAMTX_UNAVAILABLE` counts as a failure. A refusal does not, since the server has responded. */
export function createBreaker ({
  threshold = 5,
  resetMs = 1000,
  now = performance.now.bind(performance)
}: BreakerOptions = {}): Breaker {
  let failures = 0
  let openedAt = 0
  let trying = false

  const state = (): Breaker['state'] => {
    if (failures < threshold) return 'closed'
    return now() - openedAt >= resetMs ? 'half-open' : 'open'
  }

  return {
    get state () {
      return state()
    },
    async run (call) {
      const before = state()
      if (before === 'open' || (before === 'half-open' && trying)) throw new MediaMtxUnavailable()
      trying = before === 'half-open'
      try {
        const result = await call()
        failures = 0
        return result
      } catch (error) {
        if (error instanceof MediaMtxUnavailable) {
          failures++
          openedAt = now()
        } else {
          failures = 0
        }
        throw error
      } finally {
        trying = false
      }
    },
    reset () {
      failures = 0
    }
  }
}

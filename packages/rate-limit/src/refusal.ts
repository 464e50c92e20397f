import type { MartyError } from '@marty/core'
import { RateLimitExceeded } from './errors.js'
import type { LimitDecision } from './limiter.js'

/** Creates the 429 that reports why a request was refused and when the same request fits. */
export function rateLimitRefusal (
  { retryAfterMs, violated, degraded }: LimitDecision,
  headers: Record<string, string>
): MartyError {
  const isPossible = Number.isFinite(retryAfterMs)
  return new RateLimitExceeded({
    message: isPossible
      ? `Too many requests; the next one fits in ${retryAfterMs} ms`
      : `This request costs more than its limit (${violated.join(', ')}): it never fits; ask for less at a time`,
    headers,
    data: {
      ...(isPossible ? { retry_after_ms: retryAfterMs } : {}),
      'violated-policies': violated,
      ...(degraded ? { degraded: true } : {})
    }
  })
}

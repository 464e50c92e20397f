import type { MartyError } from '@marty/core'
import { RateLimitExceeded } from './errors.js'
import type { LimitDecision } from './decision.js'

/** Creates the 429 that reports why a request was refused and when the same request fits. */
export function rateLimitRefusal (
  { retryAfterMs, violated, degraded }: LimitDecision,
  headers: Record<string, string>
): MartyError {
  if (!Number.isFinite(retryAfterMs)) {
    return new RateLimitExceeded({
      message:
        `This request costs more than its limit (${violated.join(', ')}): it never fits; ask for less at a time`,
      headers,
      data: { 'violated-policies': violated }
    })
  }
  return new RateLimitExceeded({
    message: `Too many requests; the next one fits in ${retryAfterMs} ms`,
    headers,
    // Not built by spreading: V8 keeps the properties of such an object in a slow form, and an attacker gets many.
    data: degraded
      ? { retry_after_ms: retryAfterMs, 'violated-policies': violated, degraded }
      : { retry_after_ms: retryAfterMs, 'violated-policies': violated }
  })
}

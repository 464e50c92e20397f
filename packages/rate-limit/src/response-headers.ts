import type { LimitDecision, Policy, Quota } from './limiter.js'

/**
 * The fields of draft-ietf-httpapi-ratelimit-headers: the policy of every rule, and the state of the tightest.
 * Rule names are restricted to characters that need no escaping in a structured field's string.
 *
 * @param policies every rule of the operation, when the decision speaks of fewer
 */
export function responseHeaders (decision: LimitDecision, policies: readonly Policy[] = decision.quotas): Record<string, string> {
  if (decision.quotas.length === 0) return {}
  const headers: Record<string, string> = {
    'ratelimit-policy': policies.map(({ rule, limit, windowMs }) => `"${rule}";q=${limit};w=${toSeconds(windowMs)}`).join(', ')
  }
  const { rule, remaining, resetMs } = tightest(decision)
  // On a refusal t must not promise more than Retry-After does.
  const t = toSeconds(decision.allowed ? resetMs : decision.retryAfterMs)
  headers.ratelimit = `"${rule}";r=${remaining};t=${t}`
  if (!decision.allowed) headers['retry-after'] = String(t)
  return headers
}

function tightest ({ allowed, quotas, violated }: LimitDecision): Quota {
  return quotas
    .filter(quota => allowed || violated.includes(quota.rule))
    .reduce((a, b) => b.remaining < a.remaining || (b.remaining === a.remaining && b.resetMs > a.resetMs) ? b : a)
}

function toSeconds (milliseconds: number): number {
  return Math.ceil(milliseconds / 1000)
}

import type { LimitDecision, Quota } from './decision.js'

/** `draft`: draft-ietf-httpapi-ratelimit-headers. `legacy`: the `X-RateLimit-*` fields. */
export type HeaderStyle = 'draft' | 'legacy' | 'both' | 'none'

/**
 * The header fields that report limits: the policy of every rule, and the state of the one closest to being used up.
 * In every style, a refusal has `Retry-After` and forbids caching. Rule names are restricted to characters that need
 * no escaping in a string of a structured field.
 *
 * @param policy the policy field for all rules of the operation, if it is known; null to build it from the decision
 */
export function responseHeaders (
  decision: LimitDecision,
  style: HeaderStyle,
  policy: string | null
): Record<string, string> {
  const headers: Record<string, string> = {}
  if (decision.quotas.length === 0) return headers
  const { rule, limit, remaining, resetMs } = tightest(decision)
  // On a refusal, `t` must not promise an earlier time than Retry-After.
  const t = toSeconds(decision.allowed ? resetMs : decision.retryAfterMs)
  // A request that never fits has no retry time.
  const isTimed = Number.isFinite(t)
  if (style === 'draft' || style === 'both') {
    headers['ratelimit-policy'] =
      policy ?? decision.quotas.map(quota => policyOf(quota.rule, quota.limit, quota.windowMs)).join(', ')
    headers.ratelimit = `"${rule}";r=${remaining}${isTimed ? `;t=${t}` : ''}`
  }
  if (style === 'legacy' || style === 'both') {
    headers['x-ratelimit-limit'] = String(limit)
    headers['x-ratelimit-remaining'] = String(remaining)
    if (isTimed) headers['x-ratelimit-reset'] = String(t)
  }
  if (!decision.allowed) {
    if (isTimed) headers['retry-after'] = String(t)
    // A refusal is valid only for a moment.
    headers['cache-control'] = 'no-store'
  }
  return headers
}

export function policyOf (rule: string, limit: number, windowMs: number): string {
  return `"${rule}";q=${limit};w=${toSeconds(windowMs)}`
}

function tightest ({ allowed, quotas, violated }: LimitDecision): Quota {
  let found: Quota | null = null
  for (const quota of quotas) {
    if (!allowed && !violated.includes(quota.rule)) continue
    if (
      found === null ||
      quota.remaining < found.remaining ||
      (quota.remaining === found.remaining && quota.resetMs > found.resetMs)
    ) {
      found = quota
    }
  }
  return found!
}

function toSeconds (milliseconds: number): number {
  return Math.ceil(milliseconds / 1000)
}

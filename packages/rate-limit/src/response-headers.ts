import type { LimitDecision, Quota } from './limiter.js'

/** `draft` is draft-ietf-httpapi-ratelimit-headers, `legacy` the `X-RateLimit-*` fields. */
export type HeaderStyle = 'draft' | 'legacy' | 'both' | 'none'

/**
 * What an answer says of its limits: the policy of every rule, and the state of the tightest. A refusal says when to come back in
 * every style, and that no cache may keep it. Rule names are restricted to characters that need no escaping in a structured field's string.
 *
 * @param policy the field of every rule of the operation, when it is known; made of the decision's by default
 */
export function responseHeaders (
  decision: LimitDecision,
  style: HeaderStyle,
  policy: string | null
): Record<string, string> {
  const headers: Record<string, string> = {}
  if (decision.quotas.length === 0) return headers
  const { rule, limit, remaining, resetMs } = tightest(decision)
  // On a refusal t must not promise more than Retry-After does.
  const t = toSeconds(decision.allowed ? resetMs : decision.retryAfterMs)
  // What never fits has no time to come back.
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
    // It is true for a moment only.
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

import { BoundedMap } from '../store/bounded-map.js'
import { ruleOf } from './budget.js'

/** A budget that a rule refuses. */
export interface Refused {
  /** The key of the budget, which `marty limits show` accepts: `login:address:203.0.113.7`. */
  readonly key: string
  readonly rule: string
  /** Number of refusals. It starts again at 0 after a minute without a refusal. */
  readonly refusals: number
  /** Milliseconds until a request fits again; 0 when one fits now. */
  readonly retryAfterMs: number
}

/** The refusals of one budget by this process. Times are on the limiter's clock, in milliseconds. */
export interface Refusal {
  readonly key: string
  untilMs: number
  /** When the store last refused; -Infinity when only the local memory has refused since the entry was created. */
  saidAtMs: number
  refusals: number
  /** Refusals that have not been reported to Redis. */
  unreported: number
}

export interface Refusals {
  /** @param saidAtMs when the store refused; absent when the refusal was known without asking */
  note (key: string, untilMs: number, nowMs: number, saidAtMs?: number): void
  forget (key: string): void
  entries (): Iterable<Refusal>
  top (count: number, nowMs: number): readonly Refused[]
}

/** How long an entry is kept after its refusal ends, so that a client that is refused now and then stays one entry. */
export const LINGER_MS = 60_000

export const MAX_REFUSED = 1000

/** Remembers the refused budgets for operators; when there are too many, those refused most recently. */
export function createRefusals (): Refusals {
  const known = new BoundedMap<Refusal>(MAX_REFUSED)

  return {
    note (key, untilMs, nowMs, saidAtMs) {
      let entry = known.get(key)
      if (entry === undefined) {
        entry = { key, untilMs, saidAtMs: -Infinity, refusals: 0, unreported: 0 }
        known.set(key, entry)
      } else if (entry.untilMs + LINGER_MS < nowMs) {
        entry.refusals = 0
      }
      entry.untilMs = untilMs
      if (saidAtMs !== undefined) entry.saidAtMs = saidAtMs
      entry.refusals++
      entry.unreported++
    },
    forget (key) {
      known.delete(key)
    },
    entries: () => known.values(),
    top: (count, nowMs) =>
      [...known.values()]
        .filter(({ untilMs }) => untilMs + LINGER_MS >= nowMs)
        .sort((a, b) => b.refusals - a.refusals)
        .slice(0, count)
        .map(({ key, untilMs, refusals }) => ({
          key,
          rule: ruleOf(key),
          refusals,
          retryAfterMs: Math.max(0, Math.ceil(untilMs - nowMs))
        }))
  }
}

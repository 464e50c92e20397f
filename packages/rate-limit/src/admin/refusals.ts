import { BoundedMap } from '../store/bounded-map.js'
import { ruleOf } from './budget.js'

/** Somebody whom a rule refuses. */
export interface Refused {
  /** The budget, as `marty limits show` takes it: `login:address:203.0.113.7`. */
  readonly key: string
  readonly rule: string
  /** Times refused, since the last time nothing was refused for a minute. */
  readonly refusals: number
  /** Milliseconds until a request fits again; 0 when one fits now. */
  readonly retryAfterMs: number
}

/** What this process knows of one budget that refuses. Times are on the limiter's clock, in milliseconds. */
export interface Refusal {
  readonly key: string
  untilMs: number
  /** When the store said so; -Infinity when only the local memory did, since the entry was made. */
  saidAtMs: number
  refusals: number
  /** Refusals that Redis has not been told of. */
  unreported: number
}

export interface Refusals {
  /** @param saidAtMs when the store refused; absent when the refusal was known without asking */
  note (key: string, untilMs: number, nowMs: number, saidAtMs?: number): void
  forget (key: string): void
  entries (): Iterable<Refusal>
  top (count: number, nowMs: number): readonly Refused[]
}

/** A client that is refused now and then between admissions stays one entry for as long. */
export const LINGER_MS = 60_000

export const MAX_REFUSED = 1000

/** Remembers who is refused, so that an operator can be told; of very many, those refused last. */
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

import { redisScript, type ScriptClient } from '@marty/redis/script'
import { REPORT_SCRIPT, RULES_SCRIPT } from './scripts.js'
import type { ResolvedRule } from '../rules.js'
import { controlKeys } from './budgets.js'
import { LINGER_MS, MAX_REFUSED, type Refusals } from './refusals.js'

export interface RefusalReportsOptions {
  readonly redis: ScriptClient
  readonly prefix: string
  readonly rules: ReadonlyMap<string, Pick<ResolvedRule, 'limit' | 'windowMs' | 'by' | 'cost' | 'windowOf'>>
  readonly refusals: Refusals
  /** The limiter's clock, in milliseconds. */
  readonly now: () => number
  /** Called for budgets that were reset after they had refused. */
  readonly onReset: (key: string) => void
}

export interface RefusalReports {
  /** Publishes the rules, immediately and then every minute. */
  start (): void
  /** To be called on every refusal: schedules a report in one second, if none is scheduled yet. */
  schedule (): void
  close (): void
}

/**
 * At most one write per second, for at most this many budgets, the most refused first:
 * an attack must not put load on Redis too.
 */
const REPORT_EVERY_MS = 1000
const MAX_REPORTED = 100

/** Rules are published again at this interval, in case Redis has lost its data. */
const PUBLISH_EVERY_MS = 60_000
const PUBLISH_AGAIN_MS = 2_000
const RULES_KEPT_MS = 24 * 3_600_000

/** Replaces Infinity, which Lua cannot parse. */
const LONG_AGO_MS = 1e12

const report = redisScript(REPORT_SCRIPT)
const publish = redisScript(RULES_SCRIPT)

/**
 * Publishes the rules and the refusals in Redis for operators, outside the path of requests, and learns which budgets
 * they have reset. A failed report is lost: nothing is sent twice.
 */
export function createRefusalReports ({
  redis, prefix, rules, refusals, now, onReset
}: RefusalReportsOptions): RefusalReports {
  const keys = controlKeys(prefix)
  let closed = false
  let reporting: NodeJS.Timeout | null = null
  let publishing: NodeJS.Timeout | null = null

  function schedule (): void {
    if (reporting === null && !closed) {
      reporting = setTimeout(() => {
        void send()
      }, REPORT_EVERY_MS).unref()
    }
  }

  async function send (): Promise<void> {
    const fresh = [...refusals.entries()]
      .filter(({ unreported }) => unreported > 0)
      .sort((a, b) => b.unreported - a.unreported)
    const nowMs = now()
    const args: Array<string | number> = [LINGER_MS, MAX_REFUSED]
    for (const entry of fresh.slice(0, MAX_REPORTED)) {
      args.push(
        entry.key,
        Math.ceil(entry.untilMs - nowMs),
        Math.ceil(Math.min(nowMs - entry.saidAtMs, LONG_AGO_MS)),
        entry.unreported
      )
      entry.unreported = 0
    }
    try {
      const reset = (await report(redis, [keys.refused, keys.refusals, keys.resets], args)) as string[]
      for (const key of reset) onReset(key)
    } catch {
      // Ignored: the requests themselves report that Redis is unreachable.
    }
    reporting = null
    if ([...refusals.entries()].some(({ unreported }) => unreported > 0)) schedule()
  }

  async function publishRules (): Promise<void> {
    const fields = [...rules].flatMap(([name, { limit, windowMs, by, cost, windowOf }]) => [
      name,
      JSON.stringify({ limit, windowMs, by, cost, windowOf })
    ])
    let nextMs = PUBLISH_EVERY_MS
    try {
      await publish(redis, [keys.rules], [RULES_KEPT_MS, ...fields])
    } catch {
      nextMs = PUBLISH_AGAIN_MS
    }
    if (!closed) {
      publishing = setTimeout(() => {
        void publishRules()
      }, nextMs).unref()
    }
  }

  return {
    start () {
      if (rules.size > 0) void publishRules()
    },
    schedule,
    close () {
      closed = true
      if (reporting !== null) clearTimeout(reporting)
      if (publishing !== null) clearTimeout(publishing)
    }
  }
}

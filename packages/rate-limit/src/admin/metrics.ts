import type { Metric } from '@marty/core'

/**
 * The outcome of a decision for one rule. For a refusal, only the rules that are used up are counted.
 *
 * - `allowed`, `denied`: decided by the store
 * - `known_denied`: refused from local memory, without a call to the store
 * - `degraded_allowed`, `degraded_denied`: decided by this process while the shared store was unreachable
 * - `error`: refused with 503, because the store was unreachable and limits fail closed
 */
export type LimitOutcome = typeof OUTCOMES[number]

/** Decisions since the start of the process, by rule and outcome. */
export type LimitMetrics = Readonly<Record<string, Readonly<Record<LimitOutcome, number>>>>

export interface Metrics {
  /** The counters of one rule, which the caller increments. */
  of (rule: string): Record<LimitOutcome, number>
  read (): LimitMetrics
}

const OUTCOMES = ['allowed', 'denied', 'known_denied', 'degraded_allowed', 'degraded_denied', 'error'] as const

/**
 * Rules come from the configuration, never from clients, so the number of counters is bounded by the number of rules.
 */
export function createMetrics (rules: Iterable<string>): Metrics {
  const counters = new Map<string, Record<LimitOutcome, number>>()
  for (const rule of rules) begin(rule)

  function begin (rule: string): Record<LimitOutcome, number> {
    const counter = { allowed: 0, denied: 0, known_denied: 0, degraded_allowed: 0, degraded_denied: 0, error: 0 }
    counters.set(rule, counter)
    return counter
  }

  return {
    of: rule => counters.get(rule) ?? begin(rule),
    read: () => Object.fromEntries([...counters].map(([rule, counter]) => [rule, { ...counter }]))
  }
}

const NAME = 'marty_rate_limit_decisions_total'

/** The same decisions for `@marty/metrics`, and the refusals among them. */
export function limitReadings (metrics: LimitMetrics): Metric[] {
  const rules = Object.entries(metrics)
  return [
    {
      name: 'rate_limit_decisions_total',
      help: 'Decisions of the rate limiter, by rule and outcome.',
      type: 'counter',
      values: rules.flatMap(([rule, counter]) =>
        OUTCOMES.map(outcome => ({ labels: { rule, outcome }, value: counter[outcome] })))
    },
    {
      name: 'rate_limit_hits_total',
      help: 'Requests refused because a limit was used up, by rule.',
      type: 'counter',
      values: rules.map(([rule, { denied, known_denied: known, degraded_denied: degraded }]) =>
        ({ labels: { rule }, value: denied + known + degraded }))
    }
  ]
}

/** The text format of Prometheus, version 0.0.4. */
export function prometheusText (metrics: LimitMetrics): string {
  const lines = [
    `# HELP ${NAME} Decisions of the rate limiter, by rule and outcome.`,
    `# TYPE ${NAME} counter`
  ]
  for (const [rule, counter] of Object.entries(metrics)) {
    for (const outcome of OUTCOMES) {
      lines.push(`${NAME}{rule="${escaped(rule)}",outcome="${outcome}"} ${counter[outcome]}`)
    }
  }
  return `${lines.join('\n')}\n`
}

function escaped (value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

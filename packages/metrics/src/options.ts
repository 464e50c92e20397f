import { checkOptions, optionsInvalid, type OptionScope, type OptionTable, type SecurityRule } from '@marty/core'
import { MetricsOptionInvalid } from './errors.js'

export interface MetricsOptions {
  /** Who may read the metrics. They name every route, rule and role, so there is no default. */
  readonly security?: SecurityRule
  /**
   * The URL of the metrics, or null for no route: another server, such as one on a port of its own, then sends
   * `fastify.metrics.text()`.
   * @default '/metrics'
   */
  readonly path?: string | null
  /**
   * Upper bounds of the histogram of response times, in seconds and ascending.
   * @default [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
   */
  readonly bucketsSeconds?: readonly number[]
  /** Also reports memory, CPU, garbage collection and event loop delay of this process. @default true */
  readonly process?: boolean
}

export type ResolvedOptions = Readonly<Required<Omit<MetricsOptions, 'security'>>> & Pick<MetricsOptions, 'security'>

export const OPTIONS: OptionTable<MetricsOptions, ResolvedOptions> = {
  security: {
    kind: 'custom',
    expected: 'a security rule',
    accepts: value => typeof value === 'object' && value !== null,
    optional: true,
    defaultText: 'required, unless `path` is null',
    about: 'Who may read the metrics. They name every route, rule and role.'
  },
  path: {
    kind: 'string',
    pattern: /^(\/[\w.-]+)+$/,
    expected: 'a path such as "/metrics"',
    or: [null],
    default: '/metrics',
    about: 'URL of the metrics. With null there is no route: send `await app.metrics.text()` from another server.'
  },
  bucketsSeconds: {
    kind: 'custom',
    expected: 'a list of positive numbers in ascending order',
    accepts: value => Array.isArray(value) && value.length > 0 && value.every(isAscending),
    default: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    defaultText: '1 ms to 10 s in 13 steps',
    about: 'Upper bounds of the histogram of response times.'
  },
  process: {
    kind: 'boolean',
    default: true,
    about: 'Also reports memory, CPU, garbage collection and event loop delay of this process.'
  }
}

const SCOPE: OptionScope = { subject: 'metrics', refuse: message => new MetricsOptionInvalid(message), isPlugin: true }

/** Checks the options and fills in the defaults. Throws `MARTY_METRICS_OPT_INVALID`. */
export function resolveOptions (options: MetricsOptions): ResolvedOptions {
  const checked = checkOptions(OPTIONS, options, SCOPE)
  if (checked.path !== null && checked.security === undefined) {
    const problem = "is required: say who may read the metrics, such as { permission: 'metrics:read' }, or set path " +
      'to null and serve fastify.metrics.text() on a port that only your monitoring reaches'
    throw optionsInvalid(SCOPE, [{ field: 'security', problem }])
  }
  return Object.freeze(checked)
}

function isAscending (bound: unknown, index: number, bounds: readonly unknown[]): boolean {
  return Number.isFinite(bound) && (bound as number) > (index === 0 ? 0 : bounds[index - 1] as number)
}

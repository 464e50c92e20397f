/** One metric, as Prometheus defines it, at the moment of reading. */
export interface Metric {
  /** In snake case, with its unit; counters end in `_total`. */
  readonly name: string
  /** One sentence. */
  readonly help: string
  readonly type: 'counter' | 'gauge'
  readonly values: readonly MetricValue[]
}

/** Labels must come from closed sets, such as the names of rules: each combination becomes a time series. */
export interface MetricValue {
  readonly labels?: Readonly<Record<string, string>>
  readonly value: number
}

/** Returns the current readings of a plugin. It is called for each scrape and must not do I/O. */
export type MetricSource = () => readonly Metric[]

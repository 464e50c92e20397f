import type { Guard, MetricValue } from '@marty/core'
import { Counter, Gauge, type Registry } from 'prom-client'

/**
 * Every metric in Prometheus's text format, with the readings of the other plugins. They are taken when the metrics are
 * read, so they cost nothing between two scrapes.
 */
export async function textWithReadings (guard: Guard, registry: Registry): Promise<string> {
  const readings = new Map<string, Reading>()
  for (const { values, ...metric } of guard.metrics()) {
    const known = readings.get(metric.name)
    if (known === undefined) readings.set(metric.name, { ...metric, values: [...values] })
    else known.values.push(...values)
  }
  for (const reading of readings.values()) publish(registry, reading)
  return await registry.metrics()
}

interface Reading {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge'
  readonly values: MetricValue[]
}

/** Replaces the metric of the last scrape: prom-client cannot set a counter. */
function publish (registry: Registry, { name, help, type, values }: Reading): void {
  registry.removeSingleMetric(name)
  const labelNames = [...new Set(values.flatMap(({ labels = {} }) => Object.keys(labels)))]
  const options = { name, help, labelNames, registers: [registry] }
  const metric = type === 'counter' ? new Counter(options) : new Gauge(options)
  for (const { labels = {}, value } of values) metric.inc(labels, value)
}

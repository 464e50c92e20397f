import './augment.js'
import { useGuard } from '@marty/core'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { collectDefaultMetrics, Registry } from 'prom-client'
import { measureRequests } from './http-requests.js'
import { resolveOptions, type MetricsOptions } from './options.js'
import { textWithReadings } from './readings.js'
import { countSecurityEvents } from './security-events.js'

export interface Metrics {
  /** The registry of prom-client, for metrics of the application's own. */
  readonly registry: Registry
  /** The value of `Content-Type` that belongs to {@link text}. */
  readonly contentType: string
  /** Every metric in Prometheus's text format. */
  text (): Promise<string>
}

async function plugin (fastify: FastifyInstance, options: MetricsOptions): Promise<void> {
  const { security, path, bucketsSeconds, process } = resolveOptions(options)
  const guard = useGuard(fastify)
  // Of its own: a registry for the whole process would mix the applications of one process.
  const registry = new Registry()
  if (process) collectDefaultMetrics({ register: registry })
  measureRequests(fastify, registry, bucketsSeconds)
  countSecurityEvents(guard, registry)

  const metrics: Metrics = {
    registry,
    contentType: registry.contentType,
    text: async () => await textWithReadings(guard, registry)
  }
  fastify.decorate('metrics', metrics)
  if (path === null) return
  fastify.get(path, { config: { security: security! } }, async (_request, reply) => reply
    .header('content-type', metrics.contentType)
    .header('cache-control', 'no-store')
    .send(await metrics.text()))
}

/**
 * Prometheus metrics: requests, credentials, security events, and the readings that other plugins give.
 * Throws `MARTY_METRICS_OPT_INVALID`.
 */
export const metrics: FastifyPluginAsync<MetricsOptions> = fp(plugin, { name: '@marty/metrics', fastify: '5.x' })
export default metrics
export { MetricsOptionInvalid } from './errors.js'
export type { MetricsOptions } from './options.js'

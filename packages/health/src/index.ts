import './augment.js'
import { didYouMean, useGuard } from '@marty/core'
import type { FastifyInstance, FastifyPluginAsync, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { createComponent, type HealthStatus, type ProbeResult } from './component.js'
import { ComponentUnknown } from './errors.js'
import { resolveOptions, type HealthOptions } from './options.js'

export interface HealthReport {
  /** The worst status of all components. */
  readonly status: HealthStatus
  /** When the report was created, ISO 8601. */
  readonly timestamp: string
  readonly components: Readonly<Record<string, ProbeResult>>
}

export interface Health {
  /** Measures the named components, or all of them. Throws `MARTY_HEALTH_COMPONENT_UNKNOWN` for an unknown name. */
  report (names?: readonly string[]): Promise<HealthReport>
  /** Makes `/ready` answer 503, so that no new requests are routed here. Called automatically on close. */
  drain (): void
  readonly draining: boolean
}

async function plugin (fastify: FastifyInstance, options: HealthOptions): Promise<void> {
  const { components, timeoutMs, cacheMs, ready, groups, path, security } = resolveOptions(options)
  useGuard(fastify)

  const measurements = new Map(Object.entries(components).map(([name, probe]) => [name, createComponent({
    name,
    probe,
    timeoutMs,
    cacheMs,
    onChange (component, status, cause) {
      if (status === 'healthy') fastify.log.info({ component, status }, 'component is healthy again')
      else fastify.log.warn({ component, status, err: cause }, 'component is not healthy')
    }
  })]))
  let draining = false

  const health: Health = {
    async report (names = [...measurements.keys()]) {
      const results = await Promise.all(names.map(async name => {
        const measure = measurements.get(name)
        if (measure === undefined) {
          throw new ComponentUnknown(`There is no component "${name}"${didYouMean(name, [...measurements.keys()])}`)
        }
        return [name, await measure()] as const
      }))
      return reportOf(Object.fromEntries(results))
    },
    drain () { draining = true },
    get draining () { return draining }
  }
  fastify.decorate('health', health)
  fastify.addHook('preClose', async () => { health.drain() })

  const route = (name: string, report: () => HealthReport | Promise<HealthReport>): void => {
    fastify.get(`${path}/${name}`, { config: { security } }, async (request, reply) => answer(reply, await report()))
  }
  // Liveness includes no component: restarting this process would not repair any of them.
  route('live', () => reportOf({}))
  route('ready', async () => {
    const service: ProbeResult = draining
      ? { status: 'unhealthy', details: 'Shutting down' }
      : { status: 'healthy', details: 'Taking requests' }
    return reportOf({ service, ...(await health.report(ready)).components })
  })
  for (const [group, names] of Object.entries(groups)) route(group, async () => await health.report(names))
}

function answer (reply: FastifyReply, { status, timestamp, components }: HealthReport): FastifyReply {
  const shown = Object.fromEntries(
    Object.entries(components).map(([name, { status, details }]) => [name, { status, details }])
  )
  return reply
    .code(status === 'unhealthy' ? 503 : 200)
    .header('cache-control', 'no-store')
    .send({ status, timestamp, components: shown })
}

const WORST_FIRST: readonly HealthStatus[] = ['unhealthy', 'degraded', 'healthy']

function reportOf (components: Readonly<Record<string, ProbeResult>>): HealthReport {
  const results = Object.values(components)
  const status = WORST_FIRST.find(status => results.some(result => result.status === status)) ?? 'healthy'
  return { status, timestamp: new Date().toISOString(), components }
}

export const health: FastifyPluginAsync<HealthOptions> = fp(plugin, { name: '@marty/health', fastify: '5.x' })
export default health

export type { HealthStatus, Probe, ProbeResult } from './component.js'
export { ComponentUnknown, HealthOptionInvalid } from './errors.js'
export type { HealthOptions } from './options.js'

import { setProblemHandlers, problemServerOptions, useGuard } from '@marty/core'
import { headers } from '@marty/headers'
import { health } from '@marty/health'
import Fastify, { type FastifyInstance } from 'fastify'
import { healthProbes, type HealthSources } from './health-probes.js'
import { cutStalledReaders, slowClientOptions } from './slow-clients.js'

/** The health report of a service, on a port of its own. Anyone who reaches the port can read it. */
export async function createHealthServer (service: FastifyInstance, sources: HealthSources): Promise<FastifyInstance> {
  const { config } = sources.settings
  const stalledMs = config.server.stalled_client_seconds * 1000
  const slow = slowClientOptions(stalledMs)
  const app = Fastify({
    ...problemServerOptions,
    logger: false,
    ...slow.fastify,
    http: slow.server,
    forceCloseConnections: true
  })
  cutStalledReaders(app, stalledMs)
  useGuard(app, { strict: true })
  setProblemHandlers(app)
  await app.register(headers, { environment: config.environment })
  const components = healthProbes(service, sources)
  await app.register(health, {
    components,
    ready: config.health.ready_requires,
    groups: { system: Object.keys(components), cameras: ['cameras'], mediamtx: ['mediamtx'] }
  })
  return app
}

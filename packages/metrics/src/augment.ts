import type { Metrics } from './index.js'

declare module 'fastify' {
  interface FastifyInstance {
    metrics: Metrics
  }
}

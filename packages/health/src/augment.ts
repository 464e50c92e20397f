import type { Health } from './index.js'

declare module 'fastify' {
  interface FastifyInstance {
    health: Health
  }
}

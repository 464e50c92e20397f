import type { Security } from './boot-audit.js'

declare module 'fastify' {
  interface FastifyInstance {
    security: Security
  }
}

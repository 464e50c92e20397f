import type { Limiter } from './limiter.js'

declare module '@marty/core' {
  interface SecurityRule {
    /** Names of limits, in addition to the ones applied to every operation of the transport; `false` for none at all. */
    readonly limits?: readonly string[] | false
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    limiter: Limiter
  }
}

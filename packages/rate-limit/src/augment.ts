import type { Limiter } from './limiter.js'
import type { RouteLimit } from './route-rules.js'

declare module '@marty/core' {
  interface SecurityRule {
    /** Rules by name, by name and cost, or written here, in addition to the ones applied to every operation of the transport; `false` for none at all. */
    readonly limits?: readonly RouteLimit[] | false
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    limiter: Limiter
  }
}

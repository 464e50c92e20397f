// Declares `helmet` of routes, `reply.helmet` and `reply.cspNonce`.
import '@fastify/helmet'
import type { HeaderOverrides } from './options.js'

declare module '@marty/core' {
  interface OperationFacts {
    /** Whether a route has headers of its own, by `config.headers` or `helmet`. */
    readonly headers?: 'standard' | 'own'
  }
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Security headers of this route; they override the options of the plugin. */
    headers?: HeaderOverrides
  }
}

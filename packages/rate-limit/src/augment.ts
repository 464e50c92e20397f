import type { Limiter } from './limiter.js'
import type { RouteLimit } from './route-rules.js'

declare module '@marty/core' {
  interface SecurityRule {
    /**
     * Rules for this operation: by name, by name and cost, or declared inline. They are added to the rules of every
     * operation of the transport; with `{ only }`, they replace them. `false` disables all of them.
     */
    readonly limits?: readonly RouteLimit[] | { readonly only: readonly RouteLimit[] } | false
  }

  interface OperationFacts {
    /** The names of all rules that the operation is charged by. */
    readonly limits?: readonly string[]
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    limiter: Limiter
  }
}

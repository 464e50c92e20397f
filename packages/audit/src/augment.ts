import type { Audit } from './audit.js'

declare module 'fastify' {
  interface FastifyInstance {
    audit: Audit
  }
}

declare module '@marty/core' {
  interface SecurityRule {
    /**
     * What is remembered of this operation: every call, only refusals, or nothing. `required`: every call, and none
     * that could not be recorded first (503).
     * @default 'denied'
     */
    readonly audit?: 'all' | 'denied' | 'none' | 'required'
  }
}

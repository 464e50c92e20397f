import type { Audit } from './audit.js'

declare module 'fastify' {
  interface FastifyInstance {
    audit: Audit
  }
}

declare module '@marty/core' {
  interface SecurityRule {
    /**
     * What is recorded of this operation: every call, only refusals, or nothing. `required`: every call is recorded
     * before it runs, and refused with 503 if that fails.
     * @default 'denied'
     */
    readonly audit?: 'all' | 'denied' | 'none' | 'required'
  }

  interface OperationFacts {
    /** What is recorded of the operation. */
    readonly audit?: 'all' | 'denied' | 'none' | 'required'
  }
}

import type { Guard } from './guard/guard.js'
import type { Principal } from './principal.js'
import type { SecurityRule } from './rule.js'

declare module 'fastify' {
  interface FastifyInstance {
    guard: Guard
  }
  interface FastifyRequest {
    /** Who is calling; `ANONYMOUS` on public routes. */
    principal: Principal
  }
  interface FastifyContextConfig {
    /** Who may call this route. */
    security?: SecurityRule
  }
}

// Imports the types of `fastify.jwt`, `request.jwtVerify` and `request.user`.
import '@fastify/jwt'
import type { Auth } from './auth.js'

declare module '@marty/core' {
  interface SecurityRule {
    /**
     * Refuses requests that a page of another origin made the browser send, judging by `Origin` and
     * `Sec-Fetch-Site`, unless the origin is in `trustedOrigins`. The check runs before any credential
     * is read and answers 403 `MARTY_AUTH_CSRF_INVALID`. Clients that are not browsers send neither
     * header and pass.
     */
    readonly sameOrigin?: true
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The services of this plugin: tokens, API keys, sessions and the lockout. */
    readonly auth: Auth
  }
}

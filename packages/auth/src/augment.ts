// Brings the types of fastify.jwt, request.jwtVerify and request.user along.
import '@fastify/jwt'
import type { ApiKeys } from './api-keys/api-keys.js'
import type { Lockout } from './lockout/lockout.js'
import type { SessionCookie } from './sessions/cookie.js'
import type { Sessions } from './sessions/sessions.js'
import type { Tokens } from './tokens/tokens.js'

declare module '@marty/core' {
  interface SecurityRule {
    /**
     * Refuses, before any credential is looked at, what a page of another origin made a browser send (`Origin`,
     * `Sec-Fetch-Site`), unless its origin is one of `trustedOrigins`: 403 `MARTY_AUTH_CSRF_INVALID`. Programs send neither header.
     */
    readonly sameOrigin?: true
  }
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Issues and revokes access tokens. */
    tokens: Tokens
    /** API keys; null when the plugin was registered without them. */
    apiKeys: ApiKeys | null
    /** Null when sessions are switched off. */
    sessions: Sessions | null
    /** How a browser carries its session; null when sessions are switched off. */
    sessionCookie: SessionCookie | null
    /** Slows down and stops guessing; null when it is switched off. */
    lockout: Lockout | null
  }
}

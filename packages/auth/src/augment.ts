// Imports the types of `fastify.jwt`, `request.jwtVerify` and `request.user`.
import '@fastify/jwt'
import type { ApiKeys } from './api-keys/api-keys.js'
import type { Lockout } from './lockout/lockout.js'
import type { SessionCookie } from './sessions/cookie.js'
import type { Sessions } from './sessions/sessions.js'
import type { Tokens } from './tokens/tokens.js'

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
    /** Issues and revokes access tokens. */
    tokens: Tokens
    /** API keys; null when the plugin was registered without them. */
    apiKeys: ApiKeys | null
    /** Sessions; null when they are turned off. */
    sessions: Sessions | null
    /** Reads and writes the session cookie; null when sessions are turned off. */
    sessionCookie: SessionCookie | null
    /** Limits guessing of secrets; null when it is turned off. */
    lockout: Lockout | null
  }
}

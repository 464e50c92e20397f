import type { TokenClaims } from './jwt-claims.js'
import type { IssuedToken, TokenRequest } from './token-issuer.js'

/** The tokens of one application: `fastify.tokens`. */
export interface Tokens {
  /** Throws `MARTY_AUTH_REQUEST_INVALID` naming the field. */
  issue (request: TokenRequest): IssuedToken
  /** Claims of a valid token that is not revoked. Throws `MARTY_CORE_CREDENTIAL_INVALID` for any other text. */
  verify (token: string): TokenClaims
  /**
   * Refuses a token from now on, in this process and on its live connections. `expiresAt` is when it would expire
   * anyway, in milliseconds since the epoch, as `issue` returned it.
   * Throws `MARTY_AUTH_CAPACITY_EXCEEDED` rather than forget another revocation.
   */
  revoke (jti: string, expiresAt: number): void
}

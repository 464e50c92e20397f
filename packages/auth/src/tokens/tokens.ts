import type { TokenClaims } from '../jwt/claims.js'
import type { IssuedToken, TokenRequest } from './issuer.js'

/** The tokens of one application: `fastify.tokens`. */
export interface Tokens {
  /** Throws `MARTY_AUTH_REQUEST_INVALID` naming the field. */
  issue (request: TokenRequest): IssuedToken
  /** Claims of a valid token that is not revoked. Throws `MARTY_CORE_CREDENTIAL_INVALID` for any other text. */
  verify (token: string): TokenClaims
  /**
   * Refuses a token from now on, on its live connections too: here at once, and on every replica that shares the
   * store within a second of when the promise settles. `expiresAt` is when it would expire anyway, in milliseconds
   * since the epoch, as `issue` returned it.
   * Rejects with `MARTY_AUTH_CAPACITY_EXCEEDED` rather than forget another revocation, and with
   * `MARTY_AUTH_STORE_UNAVAILABLE` when only this process knows of it so far.
   */
  revoke (jti: string, expiresAt: number): Promise<void>
  /** The same for everything a subject got up to now: tokens, refresh tokens and sessions, those of `sessions.create` too. */
  revokeSubject (subject: string): Promise<void>
  /** The same for a family of refresh tokens and their access tokens, by its `sid`. `expiresAt`: of the last access token. */
  revokeFamily (sid: string, expiresAt?: number): Promise<void>
}

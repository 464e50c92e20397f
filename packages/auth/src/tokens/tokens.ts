import type { TokenClaims } from '../jwt/claims.js'
import type { IssuedToken, TokenRequest } from './issuer.js'

/** The token functions of an application: `fastify.auth.tokens`. */
export interface Tokens {
  /** Throws `MARTY_AUTH_REQUEST_INVALID` naming the field. */
  issue (request: TokenRequest): IssuedToken
  /**
   * Returns the claims of a valid token that is not revoked. Throws `MARTY_CORE_CREDENTIAL_INVALID` for
   * any other string.
   */
  verify (token: string): TokenClaims
  /**
   * Revokes a token, also on its live connections. It is refused at once in this process, and within a
   * second of when the promise settles on every replica that shares the store. `expiresAt` is when it
   * would expire anyway, in milliseconds since the epoch, as `issue` returned it.
   * Rejects with `MARTY_AUTH_CAPACITY_EXCEEDED` when no more revocations can be held, because dropping
   * another one would be unsafe, and with `MARTY_AUTH_STORE_UNAVAILABLE` when the revocation is not yet
   * shared with other replicas.
   */
  revoke (jti: string, expiresAt: number): Promise<void>
  /**
   * Revokes, in the same way, everything that was issued to a subject until now: tokens, refresh tokens
   * and sessions, including those of `sessions.create`.
   */
  revokeSubject (subject: string): Promise<void>
  /**
   * Revokes, in the same way, a family of refresh tokens and their access tokens, by its `sid`.
   * `expiresAt` is when the last access token expires.
   */
  revokeFamily (sid: string, expiresAt?: number): Promise<void>
}

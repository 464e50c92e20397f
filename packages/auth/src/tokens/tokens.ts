import type { TokenClaims } from '../jwt/claims.js'
import type { Revocations } from '../revocations/revocations.js'
import type { SessionStore } from '../sessions/sessions.js'
import type { IssuedToken, TokenIssuer, TokenRequest } from './issuer.js'
import type { RefreshTokens } from './refresh/refresh-tokens.js'

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
   * Revokes a token, also on its live connections. It is refused immediately in this process, and within a
   * second of when the promise settles on every replica that shares the store. `expiresAt` is when it
   * would expire anyway, in milliseconds since the epoch, as `issue` returned it.
   * Rejects with `MARTY_AUTH_CAPACITY_EXCEEDED` when no more revocations can be stored, because dropping
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

export interface TokenParts {
  readonly issuer: TokenIssuer
  /** Throws `MARTY_CORE_CREDENTIAL_INVALID` for anything but a valid token that is not revoked. */
  readonly verify: (token: string) => TokenClaims
  readonly revocations: Revocations
  readonly refreshTokens: RefreshTokens | null
  readonly sessions: SessionStore | null
}

/** Kinds of principals that can have sessions. */
const SESSION_KINDS = ['user', 'service', 'key'] as const

export function createTokens ({ issuer, verify, revocations, refreshTokens, sessions }: TokenParts): Tokens {
  return {
    issue: issuer.issue,
    verify,
    revoke: async (jti, expiresAt) => { await revocations.revokeToken(jti, expiresAt) },
    async revokeSubject (subject) {
      await Promise.all([
        revocations.revokeSubject(subject),
        ...SESSION_KINDS.map(async kind => await sessions?.revokeAll({ kind, id: subject }))
      ])
    },
    async revokeFamily (sid, expiresAt) {
      await Promise.all([revocations.revokeFamily(sid, expiresAt), refreshTokens?.revokeFamily(sid)])
    }
  }
}

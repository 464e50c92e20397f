import { CredentialInvalid } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import { createApiKeys, type ApiKeys } from './api-keys/api-keys.js'
import type { AuditHooks } from './events.js'
import { createTrustedIssuerVerifier, type TrustedIssuerVerifier } from './jwt/trusted-issuers.js'
import { createJwtVerifier, type JwtVerifier, type VerifiedToken } from './jwt/verify.js'
import { createLockout, type Lockout } from './lockout/lockout.js'
import type { ResolvedAuthOptions } from './options.js'
import { createRevocations, type Revocations } from './revocations/revocations.js'
import { createSessionCookie, type SessionCookie } from './sessions/cookie.js'
import { createSessionStore, type SessionStore } from './sessions/sessions.js'
import { createTokenIssuer, type TokenIssuer } from './tokens/issuer.js'
import { createRefreshTokens, type RefreshTokens } from './tokens/refresh/refresh-tokens.js'

/** What the plugin is made of. A part that is turned off is null. */
export interface AuthServices {
  readonly issuer: TokenIssuer
  /** Verifies a token of this service, but not whether it is revoked. */
  readonly verifyJwt: JwtVerifier
  /** Like `verifyJwt`, and refuses a token that is revoked. */
  readonly verify: (token: string) => VerifiedToken
  readonly trustedIssuers: TrustedIssuerVerifier | null
  readonly revocations: Revocations
  readonly refreshTokens: RefreshTokens | null
  readonly apiKeys: ApiKeys | null
  readonly sessions: SessionStore | null
  readonly sessionCookie: SessionCookie
  readonly lockout: Lockout | null
  close (): Promise<void>
}

export function createServices (
  options: ResolvedAuthOptions,
  hooks: AuditHooks,
  log: FastifyBaseLogger
): AuthServices {
  const { tokens, store } = options
  const { keyring, ...withoutKeyring } = tokens
  const { onVerified, onOldSecret, onReuse, onDisplaced, onLocked } = hooks
  const verifyJwt = createJwtVerifier(tokens)
  const trustedIssuers = createTrustedIssuerVerifier(options.trustedIssuers, tokens)
  const longestSeconds = Math.max(tokens.maxLifetimeSeconds, trustedIssuers?.maxLifetimeSeconds ?? 0)
  const revocations = createRevocations(store, {
    maxLifetimeSeconds: longestSeconds,
    // Refresh tokens and sessions may live longer than access tokens. A revocation of their subject must
    // be kept for as long.
    subjectLifetimeSeconds: Math.max(
      longestSeconds,
      options.refresh?.absoluteSeconds ?? 0,
      options.sessionLimits.absoluteMs / 1000
    ),
    onProblem: error => {
      log.warn(
        { err: error },
        'the store of revocations does not respond: revocations of other replicas are not known, and after a minute ' +
          'every request with a credential is refused'
      )
    }
  })
  const earliestIssue = (subject: string): number => revocations.earliestIssue(subject)
  const refreshTokens = options.refresh === null
    ? null
    : createRefreshTokens(store, { ...options.refresh, revocations, onReuse, onDisplaced })
  const lockout = options.lockout === null
    ? null
    : createLockout(store, {
      ...options.lockout,
      onLocked,
      onProblem: error => {
        log.warn(
          { err: error },
          'the store of failed attempts does not respond: until it does, this process counts only its own'
        )
      }
    })
  const apiKeys = options.apiKeys === null
    ? null
    : createApiKeys(options.apiKeys, {
      ...(lockout === null ? {} : { lockout }),
      onVerified,
      onOldSecret,
      onProblem: error => { log.warn({ err: error }, 'the store of API keys cannot be written') }
    })
  const sessions = options.sessions === null
    ? null
    : createSessionStore(store, options.sessions, Date.now, earliestIssue)

  return {
    issuer: createTokenIssuer({ ...withoutKeyring, keys: keyring }, earliestIssue),
    verifyJwt,
    verify (token) {
      const verified = verifyJwt(token)
      if (revocations.isRevoked(verified.claims)) throw new CredentialInvalid({ reason: 'revoked' })
      return verified
    },
    trustedIssuers,
    revocations,
    refreshTokens,
    apiKeys,
    sessions,
    sessionCookie: createSessionCookie(options.sessionLimits.cookie),
    lockout,
    async close () {
      revocations.close()
      trustedIssuers?.close()
      lockout?.close()
      await apiKeys?.close()
    }
  }
}

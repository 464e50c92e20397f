import { CredentialInvalid, type AuthenticationContext, type Authenticator, type Principal } from '@marty/core'
import type { ApiKeys } from './api-keys/api-keys.js'
import { credentialsOf } from './credentials.js'
import type { TrustedIssuerVerifier } from './jwt/trusted-issuers.js'
import { revocableOf, type TokenClaims } from './jwt/claims.js'
import { createMtlsAuthenticator } from './mtls/mtls.js'
import type { TokenVerifier } from './jwt/verified-token-cache.js'
import type { MtlsOptions } from './mtls/options.js'
import type { Revocations } from './revocations/revocations.js'
import { createSessionAuthenticators, type SessionParts } from './sessions/authenticators.js'

export interface AuthenticatorParts {
  /** Returns the principal of a token issued by this service; the same object while the token is cached. */
  readonly verifyToken: TokenVerifier
  /** Verifies tokens of other issuers; null when none are configured. */
  readonly trustedIssuers: TrustedIssuerVerifier | null
  readonly revocations: Revocations
  readonly apiKeys: ApiKeys | null
  readonly sessions: SessionParts | null
  readonly mtls: MtlsOptions | null
  /** Called when a credential was verified, not when it was found in a cache. */
  readonly onVerified: (principal: Principal, context: AuthenticationContext) => void
}

/**
 * The authenticators in the order the guard tries them. The JWT authenticator takes every bearer string
 * that no other authenticator claims, and refuses it if it is not a valid token.
 */
export function createAuthenticators (parts: AuthenticatorParts): Authenticator[] {
  const { verifyToken, trustedIssuers, revocations, apiKeys, sessions, mtls, onVerified } = parts
  const reported = new WeakSet<Principal>()
  const isSession = (token: string): boolean => sessions !== null && token.startsWith('ses_')
  const isApiKey = (token: string): boolean => apiKeys !== null && apiKeys.accepts(token)

  const authenticators: Authenticator[] = []
  if (sessions !== null) authenticators.push(...createSessionAuthenticators(sessions))
  if (apiKeys !== null) {
    authenticators.push({
      method: 'apiKey',
      unguessable: true,
      find (request) {
        const { bearer, apiKey } = credentialsOf(request)
        if (apiKey !== null) return apiKey
        return bearer !== null && isApiKey(bearer) ? bearer : null
      },
      accepts: isApiKey,
      authenticate: (token, context) => apiKeys.verify(token, context),
      isAlive: principal => apiKeys.isAlive(principal)
    })
  }
  authenticators.push({
    method: 'jwt',
    unguessable: true,
    find (request) {
      const { bearer } = credentialsOf(request)
      return bearer !== null && !isSession(bearer) && !isApiKey(bearer) ? bearer : null
    },
    accepts: () => true,
    authenticate (token, context) {
      if (trustedIssuers?.concerns(token) === true) {
        return trustedIssuers.verifyAssertion(token).then(principal => unlessRevoked(principal, context))
      }
      return unlessRevoked(verifyToken(token, context.request?.socket ?? null), context)
    },
    isAlive: isTokenAlive
  })
  if (mtls !== null) {
    const certificates = createMtlsAuthenticator(mtls)
    // A certificate belongs to the connection, so credentials in the request come first.
    authenticators.push({
      ...certificates,
      authenticate: async (token, context) => reportOnce(await certificates.authenticate(token, context), context)
    })
  }
  return authenticators

  function unlessRevoked (principal: Principal, context: AuthenticationContext): Principal | Promise<Principal> {
    const alive = isTokenAlive(principal)
    const accept = (isAlive: boolean): Principal => {
      if (!isAlive) throw new CredentialInvalid({ reason: 'revoked' })
      return reportOnce(principal, context)
    }
    return typeof alive === 'boolean' ? accept(alive) : alive.then(accept)
  }

  /**
   * A token ends when it, its subject or its family is revoked, or when the API key it was issued for
   * ends.
   */
  function isTokenAlive (principal: Principal): boolean | Promise<boolean> {
    if (revocations.isRevoked(revocableOf(principal))) return false
    const { client_id: clientId } = principal.claims as TokenClaims
    return apiKeys === null || clientId !== principal.id ? true : apiKeys.isUsable(clientId)
  }

  /** Reports a principal once: a cached principal was reported when it was first verified. */
  function reportOnce (principal: Principal, context: AuthenticationContext): Principal {
    if (!reported.has(principal)) {
      reported.add(principal)
      onVerified(principal, context)
    }
    return principal
  }
}

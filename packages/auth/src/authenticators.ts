import { CredentialInvalid, type AuthenticationContext, type Authenticator, type Principal } from '@marty/core'
import type { ApiKeys } from './api-keys/api-keys.js'
import { credentialsOf } from './credentials.js'
import type { ForeignDoor } from './jwt/trusted-issuers.js'
import { revocableOf, type TokenClaims } from './jwt/claims.js'
import { createMtlsAuthenticator } from './mtls/mtls.js'
import type { MtlsOptions } from './mtls/options.js'
import type { Revocations } from './revocations/revocations.js'
import { createSessionAuthenticators, type SessionParts } from './sessions/authenticators.js'

export interface AuthenticatorParts {
  /** The principal of a token of this service; the same object for a token that is remembered. */
  readonly admit: (token: string) => Principal
  /** The door for tokens of other issuers; null when there are none. */
  readonly foreign: ForeignDoor | null
  readonly revocations: Revocations
  readonly apiKeys: ApiKeys | null
  readonly sessions: SessionParts | null
  readonly mtls: MtlsOptions | null
  /** A credential has been verified, not just remembered. */
  readonly onVerified: (principal: Principal, context: AuthenticationContext) => void
}

/** The authenticators in the order the guard asks them. The last one takes every bearer text nobody else knows, and refuses it. */
export function createAuthenticators (parts: AuthenticatorParts): Authenticator[] {
  const { admit, foreign, revocations, apiKeys, sessions, mtls, onVerified } = parts
  const remembered = new WeakSet<Principal>()
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
      if (foreign?.concerns(token) === true) {
        return foreign.verifyAssertion(token).then(principal => unlessRevoked(principal, context))
      }
      return unlessRevoked(admit(token), context)
    },
    isAlive: isTokenAlive
  })
  if (mtls !== null) {
    const certificates = createMtlsAuthenticator(mtls)
    // A certificate is the connection's: what a request brings itself is asked before it.
    authenticators.push({
      ...certificates,
      authenticate: async (token, context) => verified(await certificates.authenticate(token, context), context)
    })
  }
  return authenticators

  function unlessRevoked (principal: Principal, context: AuthenticationContext): Principal | Promise<Principal> {
    const alive = isTokenAlive(principal)
    const pass = (answer: boolean): Principal => {
      if (!answer) throw new CredentialInvalid({ reason: 'revoked' })
      return verified(principal, context)
    }
    return typeof alive === 'boolean' ? pass(alive) : alive.then(pass)
  }

  /** A token dies when it, its subject or its family is revoked, and with the API key it was issued for. */
  function isTokenAlive (principal: Principal): boolean | Promise<boolean> {
    if (revocations.isRevoked(revocableOf(principal))) return false
    const { client_id: clientId } = principal.claims as TokenClaims
    return apiKeys === null || clientId !== principal.id ? true : apiKeys.isUsable(clientId)
  }

  /** A credential that is remembered has been told of when it was verified. */
  function verified (principal: Principal, context: AuthenticationContext): Principal {
    if (!remembered.has(principal)) {
      remembered.add(principal)
      onVerified(principal, context)
    }
    return principal
  }
}

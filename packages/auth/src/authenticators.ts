import type { Authenticator } from '@marty/core'
import type { ApiKeys } from './api-keys.js'
import { credentialsOf } from './credentials.js'
import { principalOfClaims, type TokenClaims } from './jwt-claims.js'
import type { TokenDoor } from './jwt-door.js'
import { refused } from './refused.js'
import type { Revocations } from './revocations.js'
import { createSessionAuthenticators, type SessionParts } from './sessions-authenticators.js'

export interface AuthenticatorParts {
  readonly door: TokenDoor
  readonly revocations: Revocations
  readonly apiKeys: ApiKeys | null
  readonly sessions: SessionParts | null
}

/** The authenticators in the order the guard asks them. The last one takes every bearer text nobody else knows, and refuses it. */
export function createAuthenticators (parts: AuthenticatorParts): Authenticator[] {
  const { door, revocations, apiKeys, sessions } = parts
  const isSession = (token: string): boolean => sessions !== null && token.startsWith('ses_')
  const isApiKey = (token: string): boolean => apiKeys !== null && apiKeys.accepts(token)

  const authenticators: Authenticator[] = []
  if (sessions !== null) authenticators.push(...createSessionAuthenticators(sessions))
  if (apiKeys !== null) {
    authenticators.push({
      method: 'apiKey',
      find (request) {
        const { bearer, apiKey } = credentialsOf(request)
        if (apiKey !== null) return apiKey
        return bearer !== null && isApiKey(bearer) ? bearer : null
      },
      accepts: isApiKey,
      authenticate: token => apiKeys.verify(token),
      isAlive: principal => apiKeys.isAlive(principal)
    })
  }
  authenticators.push({
    method: 'jwt',
    find (request) {
      const { bearer } = credentialsOf(request)
      return bearer !== null && !isSession(bearer) && !isApiKey(bearer) ? bearer : null
    },
    accepts: () => true,
    authenticate (token) {
      const { claims } = door(token)
      if (revocations.isRevoked(claims)) throw refused()
      return principalOfClaims(claims)
    },
    isAlive: principal => !revocations.isRevoked(principal.claims as TokenClaims)
  })
  return authenticators
}

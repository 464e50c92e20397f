import { CredentialInvalid, invalidCredential, type Authenticator, type Guard, type MartyError } from '@marty/core'
import type { ApiKeys } from './api-keys.js'
import { credentialsOf } from './credentials.js'
import { principalOfClaims, type TokenClaims } from './jwt-claims.js'
import type { TokenDoor } from './jwt-door.js'
import type { Revocations } from './revocations.js'
import type { SessionStore } from './sessions.js'

export interface AuthenticatorParts {
  readonly guard: Guard
  readonly door: TokenDoor
  readonly revocations: Revocations
  readonly apiKeys: ApiKeys | null
  readonly sessions: SessionStore | null
}

/** The authenticators in the order the guard asks them. The last one takes every bearer text nobody else knows, and refuses it. */
export function createAuthenticators (parts: AuthenticatorParts): readonly Authenticator[] {
  const { guard, door, revocations, apiKeys, sessions } = parts
  const isSession = (token: string): boolean => sessions !== null && token.startsWith('ses_')
  const isApiKey = (token: string): boolean => apiKeys !== null && apiKeys.accepts(token)

  const authenticators: Authenticator[] = []
  if (sessions !== null) {
    authenticators.push({
      method: 'session',
      find (request) {
        const { bearer } = credentialsOf(request)
        return bearer !== null && isSession(bearer) ? bearer : null
      },
      accepts: isSession,
      authenticate (token) {
        const principal = sessions.get(token)
        if (principal === null) throw refused()
        const alive = isSourceAlive(principal)
        if (typeof alive !== 'boolean') return alive.then(answer => { if (!answer) throw refused(); return principal })
        if (!alive) throw refused()
        return principal
      },
      isAlive: isSourceAlive
    })
  }
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

  // A session dies with the credential it came from, revoked or expired.
  function isSourceAlive (principal: Parameters<NonNullable<Authenticator['isAlive']>>[0]): boolean | Promise<boolean> {
    const source = sessions?.sourceOf(principal) ?? null
    return source !== null && guard.isAlive(source)
  }
}

function refused (): MartyError {
  return new CredentialInvalid(invalidCredential)
}

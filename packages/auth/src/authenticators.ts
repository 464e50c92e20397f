import { CredentialInvalid, invalidCredential, type Authenticator, type Guard, type MartyError, type Principal } from '@marty/core'
import type { ApiKeys } from './api-keys.js'
import { credentialsOf } from './credentials.js'
import type { ForeignDoor } from './foreign-issuers.js'
import type { RevocationList } from './revocation.js'
import type { SessionStore } from './sessions.js'

export interface AuthenticatorParts {
  readonly guard: Guard
  /** The principal of a token of this service. */
  readonly admit: (token: string) => Principal
  /** The door for tokens of other issuers; null when there are none. */
  readonly foreign: ForeignDoor | null
  readonly revocations: RevocationList
  readonly apiKeys: ApiKeys | null
  readonly sessions: SessionStore | null
}

/** The authenticators in the order the guard asks them. The last one takes every bearer text nobody else knows, and refuses it. */
export function createAuthenticators (parts: AuthenticatorParts): readonly Authenticator[] {
  const { guard, admit, foreign, revocations, apiKeys, sessions } = parts
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
      if (foreign?.concerns(token) === true) return foreign.verifyAssertion(token).then(unlessRevoked)
      return unlessRevoked(admit(token))
    },
    isAlive: principal => principal.session !== null && !revocations.has(principal.session)
  })
  return authenticators

  function unlessRevoked (principal: Principal): Principal {
    if (revocations.has(principal.session!)) throw refused()
    return principal
  }

  // A session dies with the credential it came from, revoked or expired.
  function isSourceAlive (principal: Principal): boolean | Promise<boolean> {
    const source = sessions?.sourceOf(principal) ?? null
    return source !== null && guard.isAlive(source)
  }
}

function refused (): MartyError {
  return new CredentialInvalid(invalidCredential)
}

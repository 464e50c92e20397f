import { CredentialInvalid, type Authenticator, type Guard, type Principal } from '@marty/core'
import type { CsrfCheck } from './csrf.js'
import { credentialsOf } from '../credentials.js'
import type { Revocations } from '../revocations/revocations.js'
import type { SessionCookie } from './cookie.js'
import { sessionKey } from './id.js'
import type { SessionRecord } from './records.js'
import type { SessionStore } from './sessions.js'

export interface SessionParts {
  readonly guard: Guard
  readonly sessions: SessionStore
  readonly revocations: Revocations
  readonly cookie: SessionCookie
  readonly csrf: CsrfCheck
}

/** Authenticates sessions by `Authorization: Bearer ses_...` and by cookie. */
export function createSessionAuthenticators ({
  guard, sessions, revocations, cookie, csrf
}: SessionParts): readonly Authenticator[] {
  const isRevoked = ({ principal, signedInAt }: SessionRecord): boolean =>
    revocations.isRevoked({ sub: principal.id, iat: signedInAt })
  const isSession = (token: string): boolean => token.startsWith('ses_')

  /** Returns null when the session, its subject or its source credential has ended or been revoked. */
  const find = (key: string | null, peek: boolean): Principal | null | Promise<Principal | null> => {
    const found = key === null ? null : sessions.find(key, peek)
    return then(found, record =>
      record === null || isRevoked(record)
        ? null
        : then(guard.isAlive(record.source, peek), alive => (alive ? record.principal : null))
    )
  }
  const isAlive = (principal: Principal, peek: boolean): boolean | Promise<boolean> =>
    then(find(principal.session, peek), found => found !== null)
  const orRefuse = (found: Principal | null): Principal => {
    if (found === null) throw new CredentialInvalid({ reason: 'session has ended' })
    return found
  }
  // Clear the cookie of an ended session. Otherwise the browser would keep sending it with every request.
  const orClear = (found: Principal | null): Principal => {
    if (found === null) {
      throw new CredentialInvalid({ reason: 'session has ended', headers: { 'set-cookie': cookie.cleared } })
    }
    return found
  }

  return [
    {
      method: 'session',
      unguessable: true,
      find (request) {
        const { bearer } = credentialsOf(request)
        return bearer !== null && isSession(bearer) ? bearer : null
      },
      accepts: isSession,
      authenticate: token => then(find(sessionKey(token), false), orRefuse),
      isAlive
    },
    {
      method: 'session',
      unguessable: true,
      // The caller sets a header on purpose, but the browser sends the cookie by itself. If a header is
      // present, only it counts, even when it is wrong: a request has one identity, and a refused one
      // does not fall back to another.
      find (request) {
        const { bearer, apiKey } = credentialsOf(request)
        return bearer === null && apiKey === null ? cookie.read(request) : null
      },
      accepts: () => false,
      authenticate (id, { request }) {
        if (id === '') return orClear(null)
        csrf.check(request, id)
        return then(find(sessionKey(id), false), orClear)
      },
      isAlive
    }
  ]
}

/** Calls `next` synchronously for a plain value, and after it resolves for a promise. */
function then<T, R> (value: T | Promise<T>, next: (value: T) => R | Promise<R>): R | Promise<R> {
  return value instanceof Promise ? value.then(next) : next(value)
}

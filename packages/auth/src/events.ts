import { ANONYMOUS, type Guard, type Principal, type SecurityEvent } from '@marty/core'
import type { ApiKeys } from './api-keys/api-keys.js'
import type { RefreshGrant } from './tokens/refresh/refresh-tokens.js'
import { sessionKey } from './sessions/id.js'
import type { Sessions, SessionStore } from './sessions/sessions.js'
import type { Tokens } from './tokens/tokens.js'

interface Told {
  readonly tokens: Tokens
  readonly apiKeys: ApiKeys | null
  readonly sessions: Sessions | null
}

interface Untold extends Omit<Told, 'sessions'> {
  readonly sessions: SessionStore | null
}

/** The principal of events that no known caller caused: the service itself. */
const SERVICE: SecurityEvent['principal'] = Object.freeze({ id: 'service', kind: 'service', roles: Object.freeze([]) })

/**
 * Wraps the services so that each credential that is issued or ended is reported to the guard's sinks.
 * Events contain nothing that can be used as a credential.
 */
export function withEvents (guard: Guard, { tokens, apiKeys, sessions }: Untold): Told {
  const tell = (
    type: 'credential' | 'session',
    action: string,
    object: string,
    principal: Pick<Principal, 'id' | 'kind' | 'roles'> = SERVICE,
    address: string | null = null
  ): void => {
    const { id, kind, roles } = principal
    void guard.emit({
      type,
      action,
      outcome: 'success',
      reason: null,
      principal: { id, kind, roles },
      address,
      requestId: null,
      object
    })
  }
  const endSession = async (key: string | null): Promise<boolean> => {
    const principal = await sessions!.end(key)
    if (principal !== null) tell('session', 'session.revoke', key!, principal)
    return principal !== null
  }
  return {
    tokens: {
      ...tokens,
      issue (request) {
        const issued = tokens.issue(request)
        tell('credential', 'token.issue', issued.jti, {
          id: request.subject,
          kind: request.kind ?? 'user',
          roles: request.roles ?? (request.role === undefined ? [] : [request.role])
        })
        return issued
      },
      async revoke (jti, expiresAt) {
        await tokens.revoke(jti, expiresAt)
        tell('credential', 'token.revoke', jti)
      },
      async revokeSubject (subject) {
        await tokens.revokeSubject(subject)
        tell('credential', 'token.revoke_subject', subject)
      },
      async revokeFamily (sid, expiresAt) {
        await tokens.revokeFamily(sid, expiresAt)
        tell('credential', 'token.revoke_family', sid)
      }
    },
    apiKeys: apiKeys === null
      ? null
      : {
          ...apiKeys,
          async create (request) {
            const issued = await apiKeys.create(request)
            tell('credential', 'api_key.create', issued.keyId)
            return issued
          },
          async rotate (keyId, options) {
            const issued = await apiKeys.rotate(keyId, options)
            tell('credential', 'api_key.rotate', keyId)
            return issued
          },
          async revoke (keyId) {
            await apiKeys.revoke(keyId)
            tell('credential', 'api_key.revoke', keyId)
          }
        },
    sessions: sessions === null
      ? null
      : {
          get: id => sessions.get(id),
          list: async of => await sessions.list(of),
          async create (principal, about) {
            const issued = await sessions.create(principal, about)
            tell('session', 'session.create', sessionKey(issued.id)!, principal, about?.address)
            return issued
          },
          async renew (id, principal) {
            const issued = await sessions.renew(id, principal)
            tell('session', 'session.renew', sessionKey(issued.id)!, principal)
            return issued
          },
          revoke: async id => await endSession(sessionKey(id)),
          revokeByKey: async key => await endSession(key),
          async revokeAll (of) {
            const ended = await sessions.revokeAll(of)
            if (ended > 0) tell('session', 'session.revoke_all', of.id, { roles: [], ...of })
            return ended
          }
        }
  }
}

export interface Tellers {
  readonly verified: (
    principal: Principal,
    from: { readonly address: string | null, readonly requestId?: string }
  ) => void
  readonly oldSecret: (keyId: string) => void
  readonly reuse: (sid: string, grant: RefreshGrant) => void
  readonly displaced: (sid: string, grant: RefreshGrant) => void
  readonly locked: (account: string, address: string | null, until: number) => void
}

/** Callbacks that report authentication events to the guard's sinks. */
export function createTellers (guard: Guard): Tellers {
  const tell = (event: Partial<SecurityEvent> & Pick<SecurityEvent, 'type' | 'action' | 'outcome'>): void => {
    void guard.emit({ reason: null, principal: SERVICE, address: null, requestId: null, ...event })
  }
  return {
    verified ({ id, kind, roles, authenticatedBy }, { address, requestId }) {
      tell({
        type: 'authentication',
        action: `authenticate.${authenticatedBy}`,
        outcome: 'success',
        principal: { id, kind, roles },
        address,
        requestId: requestId ?? null
      })
    },
    oldSecret (keyId) {
      tell({ type: 'credential', action: 'api_key.old_secret', outcome: 'success', object: keyId })
    },
    reuse (sid, { subject, kind, roles }) {
      tell({
        type: 'credential',
        action: 'refresh_token.reuse',
        outcome: 'denied',
        reason: 'MARTY_CORE_CREDENTIAL_INVALID',
        principal: { id: subject, kind, roles },
        object: sid
      })
    },
    displaced (sid, { subject, kind, roles }) {
      tell({
        type: 'credential',
        action: 'refresh_token.displace',
        outcome: 'success',
        principal: { id: subject, kind, roles },
        object: sid
      })
    },
    locked (account, address, until) {
      // The caller is not authenticated, so the account name is untrusted input.
      tell({
        type: 'authentication',
        action: 'account.lock',
        outcome: 'denied',
        reason: 'MARTY_AUTH_LOCKED',
        principal: ANONYMOUS,
        address,
        object: account.slice(0, 256),
        details: { locked_until: until }
      })
    }
  }
}

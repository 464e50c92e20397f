import { ANONYMOUS, type Guard, type Principal, type SecurityEvent } from '@marty/core'
import type { ApiKeys } from './api-keys/api-keys.js'
import type { CallerContext } from './api-keys/verify.js'
import type { RefreshGrant } from './tokens/refresh/refresh-tokens.js'
import { sessionKey } from './sessions/id.js'
import type { Sessions, SessionStore } from './sessions/sessions.js'
import type { Tokens } from './tokens/tokens.js'

/** The services that an application calls. */
export interface Services {
  readonly tokens: Tokens
  readonly apiKeys: ApiKeys | null
  readonly sessions: SessionStore | null
}

/** The same services, which report to the guard's sinks what they do. */
export interface ServicesWithEvents extends Omit<Services, 'sessions'> {
  readonly sessions: Sessions | null
}

type EventPrincipal = SecurityEvent['principal']

/** The principal of events that no known caller caused: the service itself. */
const SERVICE: EventPrincipal = Object.freeze({ id: 'service', kind: 'service', roles: Object.freeze([]) })

/**
 * Wraps the services so that each credential that is issued or ended is reported to the guard's sinks.
 * Events contain nothing that can be used as a credential.
 */
export function withEvents (guard: Guard, { tokens, apiKeys, sessions }: Services): ServicesWithEvents {
  return {
    tokens: tokensWithEvents(guard, tokens),
    apiKeys: apiKeys === null ? null : apiKeysWithEvents(guard, apiKeys),
    sessions: sessions === null ? null : sessionsWithEvents(guard, sessions)
  }
}

function tokensWithEvents (guard: Guard, tokens: Tokens): Tokens {
  const emitCredential = (action: string, object: string, principal?: EventPrincipal): void => {
    emit(guard, { type: 'credential', action, object, ...(principal === undefined ? {} : { principal }) })
  }
  return {
    ...tokens,
    issue (request) {
      const issued = tokens.issue(request)
      emitCredential('token.issue', issued.jti, {
        id: request.subject,
        kind: request.kind ?? 'user',
        roles: request.roles ?? (request.role === undefined ? [] : [request.role])
      })
      return issued
    },
    async revoke (jti, expiresAt) {
      await tokens.revoke(jti, expiresAt)
      emitCredential('token.revoke', jti)
    },
    async revokeSubject (subject) {
      await tokens.revokeSubject(subject)
      emitCredential('token.revoke_subject', subject)
    },
    async revokeFamily (sid, expiresAt) {
      await tokens.revokeFamily(sid, expiresAt)
      emitCredential('token.revoke_family', sid)
    }
  }
}

function apiKeysWithEvents (guard: Guard, apiKeys: ApiKeys): ApiKeys {
  const emitCredential = (action: string, keyId: string): void => {
    emit(guard, { type: 'credential', action, object: keyId })
  }
  return {
    ...apiKeys,
    async create (request) {
      const issued = await apiKeys.create(request)
      emitCredential('api_key.create', issued.keyId)
      return issued
    },
    async rotate (keyId, options) {
      const issued = await apiKeys.rotate(keyId, options)
      emitCredential('api_key.rotate', keyId)
      return issued
    },
    async revoke (keyId) {
      await apiKeys.revoke(keyId)
      emitCredential('api_key.revoke', keyId)
    }
  }
}

function sessionsWithEvents (guard: Guard, sessions: SessionStore): Sessions {
  const emitSession = (action: string, object: string, principal: EventPrincipal, address?: string | null): void => {
    emit(guard, { type: 'session', action, object, principal, address: address ?? null })
  }
  const end = async (key: string | null): Promise<boolean> => {
    const principal = await sessions.end(key)
    if (principal !== null) emitSession('session.revoke', key!, principal)
    return principal !== null
  }
  return {
    get: id => sessions.get(id),
    list: async owner => await sessions.list(owner),
    async create (principal, details) {
      const issued = await sessions.create(principal, details)
      emitSession('session.create', sessionKey(issued.id)!, principal, details?.address)
      return issued
    },
    async renew (id, principal) {
      const issued = await sessions.renew(id, principal)
      emitSession('session.renew', sessionKey(issued.id)!, principal)
      return issued
    },
    revoke: async id => await end(sessionKey(id)),
    revokeByKey: async key => await end(key),
    async revokeAll (owner) {
      const ended = await sessions.revokeAll(owner)
      if (ended > 0) emitSession('session.revoke_all', owner.id, { roles: [], ...owner })
      return ended
    }
  }
}

/** Callbacks of the services that report authentication events to the guard's sinks. */
export interface AuditHooks {
  readonly onVerified: (principal: Principal, caller: CallerContext) => void
  readonly onOldSecret: (keyId: string) => void
  readonly onReuse: (sid: string, grant: RefreshGrant) => void
  readonly onDisplaced: (sid: string, grant: RefreshGrant) => void
  readonly onLocked: (account: string, address: string | null, until: number) => void
}

export function createAuditHooks (guard: Guard): AuditHooks {
  return {
    onVerified (principal, { address, requestId = null }) {
      const action = `authenticate.${principal.authenticatedBy}`
      emit(guard, { type: 'authentication', action, principal, address, requestId })
    },
    onOldSecret (keyId) {
      emit(guard, { type: 'credential', action: 'api_key.old_secret', object: keyId })
    },
    onReuse (sid, grant) {
      emit(guard, {
        type: 'credential',
        action: 'refresh_token.reuse',
        outcome: 'denied',
        reason: 'MARTY_CORE_CREDENTIAL_INVALID',
        principal: subjectOf(grant),
        object: sid
      })
    },
    onDisplaced (sid, grant) {
      emit(guard, {
        type: 'credential', action: 'refresh_token.displace', principal: subjectOf(grant), object: sid
      })
    },
    onLocked (account, address, until) {
      // The caller is not authenticated, so the account name is untrusted input.
      emit(guard, {
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

/** An event whose missing members say: a success, caused by the service itself. */
type PartialEvent = Partial<SecurityEvent> & Pick<SecurityEvent, 'type' | 'action'>

/** Emits an event. Of its principal, only the id, kind and roles are reported. */
export function emit (guard: Guard, event: PartialEvent): void {
  const { id, kind, roles } = event.principal ?? SERVICE
  void guard.emit({
    outcome: 'success',
    reason: null,
    address: null,
    requestId: null,
    ...event,
    principal: { id, kind, roles }
  })
}

function subjectOf ({ subject, kind, roles }: RefreshGrant): EventPrincipal {
  return { id: subject, kind, roles }
}

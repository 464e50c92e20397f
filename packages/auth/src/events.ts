import type { Guard, Principal, SecurityEvent } from '@marty/core'
import type { ApiKeys } from './api-keys.js'
import type { Sessions } from './sessions.js'
import type { Tokens } from './tokens.js'

interface Told {
  readonly tokens: Tokens
  readonly apiKeys: ApiKeys | null
  readonly sessions: Sessions | null
}

/** The service itself, when nobody is known to have asked. */
const SERVICE: SecurityEvent['principal'] = Object.freeze({ id: 'service', kind: 'service', roles: Object.freeze([]) })

/** The same functions, telling the guard's sinks of every credential that begins or ends. Nothing told can be used as one. */
export function withEvents (guard: Guard, { tokens, apiKeys, sessions }: Told): Told {
  const tell = (type: 'credential' | 'session', action: string, object: string, principal: Pick<Principal, 'id' | 'kind' | 'roles'> = SERVICE): void => {
    const { id, kind, roles } = principal
    void guard.emit({ type, action, outcome: 'success', reason: null, principal: { id, kind, roles }, address: null, requestId: null, object })
  }
  return {
    tokens: {
      ...tokens,
      issue (request) {
        const issued = tokens.issue(request)
        tell('credential', 'token.issue', issued.jti, { id: request.subject, kind: request.kind ?? 'user', roles: request.roles ?? (request.role === undefined ? [] : [request.role]) })
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
          get size () { return sessions.size },
          create (principal) {
            const issued = sessions.create(principal)
            tell('session', 'session.create', principal.id, principal)
            return issued
          },
          revoke (id) {
            const principal = sessions.get(id)
            const revoked = sessions.revoke(id)
            if (revoked) tell('session', 'session.revoke', principal?.id ?? 'unknown', principal ?? SERVICE)
            return revoked
          }
        }
  }
}

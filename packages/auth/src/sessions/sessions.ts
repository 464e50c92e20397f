import { CredentialInvalid, type Principal } from '@marty/core'
import { CredentialRequestInvalid } from '../errors.js'
import { csrfTokenOf, isSessionKey, newSessionId, sessionKey } from './id.js'
import { createMemorySessionRecords } from './memory-store.js'
import { resolveSessionOptions, type SessionOptions } from './options.js'
import type { NewSession, SessionOwner, SessionRecord } from './records.js'
import { createRedisSessionRecords } from './redis-store.js'
import { resolveStore, type AuthStore } from '../store-options.js'

export interface IssuedSession {
  /** `ses_` and 256 random bits; a bearer credential, kept nowhere in the clear. */
  readonly id: string
  /** When it ends at the latest, in milliseconds since the epoch. */
  readonly expiresAt: number
  /** What a page sends in `X-CSRF-Token` when the session is its cookie and the request changes something. */
  readonly csrfToken: string
}

/** What may be shown of a session. Times are milliseconds since the epoch. */
export interface SessionInfo {
  /** SHA-256 of the session's id: names the session and gives it to nobody. */
  readonly key: string
  readonly id: string
  readonly kind: Principal['kind']
  readonly roles: readonly string[]
  readonly createdAt: number
  readonly usedAt: number
  readonly expiresAt: number
  /** Where it was created from, if that was told. */
  readonly address: string | null
  /** With what, at most 200 characters, none of them a control or a change of direction. */
  readonly userAgent: string | null
}

/** Where a session comes from, for the list that its owner looks at. */
export interface SessionAbout {
  readonly address?: string | null
  readonly userAgent?: string | null
  /** The id of a session that ends in the same step: what the browser brought along when it signed in. */
  readonly replaces?: string | null
}

/** Every function rejects with `MARTY_AUTH_STORE_UNAVAILABLE` when Redis is where sessions are and it does not answer. */
export interface Sessions {
  /**
   * Remembers a principal, so that it can come back with the id. The session ends with the credential it came from;
   * beyond the limit per principal, the one used longest ago gives way.
   * Throws `MARTY_AUTH_REQUEST_INVALID` for nobody, an expired principal or one that came by a session itself,
   * `MARTY_AUTH_CAPACITY_EXCEEDED` when memory is full.
   */
  create (principal: Principal, about?: SessionAbout): Promise<IssuedSession>
  /**
   * A new id for a principal who may now do other things (RFC 6265 section 8.4 names session fixation): the old id ends
   * in the same step. A principal that came by the session keeps its end; one that has authenticated anew starts anew.
   * Throws `MARTY_CORE_CREDENTIAL_INVALID` when the session is over, `MARTY_AUTH_REQUEST_INVALID` when it is somebody else's.
   */
  renew (id: string, principal: Principal): Promise<IssuedSession>
  /** The principal, if the session has not ended; counts as use. A guarded route also asks for the credential it came from. */
  get (id: string): Principal | null | Promise<Principal | null>
  /** False when there was none. On other replicas it is over within a second. */
  revoke (id: string): Promise<boolean>
  /** The same by the session's key, for lists and the command line. */
  revokeByKey (key: string): Promise<boolean>
  /** Signs a principal out everywhere; answers how many sessions that ended. */
  revokeAll (of: SessionOwner): Promise<number>
  /** Every session, or those of one principal; the one used last comes first. */
  list (of?: SessionOwner): Promise<readonly SessionInfo[]>
}

/** Sessions as the plugin itself needs them. */
export interface SessionStore extends Sessions {
  /** By the key, which an authenticated principal carries. Counts as use, unless it is a `peek`. */
  find (key: string, peek: boolean): SessionRecord | null | Promise<SessionRecord | null>
  /** Ends a session and tells whose it was. */
  end (key: string | null): Promise<Principal | null>
}

/**
 * Keeps sessions, by the hash of their id, in memory or in Redis; needs no Fastify. `clock` tells the time in
 * milliseconds since the epoch; in Redis, Redis does. `earliestIssue` is that of the revocations which end sessions by
 * their subject: who signs in again in the second of a revocation is not revoked with it.
 *
 * @throws `MARTY_AUTH_OPT_INVALID` naming the field
 */
export function createSessionStore (
  store: AuthStore = 'memory',
  options: SessionOptions = {},
  clock: () => number = Date.now,
  earliestIssue: (subject: string) => number = () => 0
): SessionStore {
  const limits = resolveSessionOptions(options)
  const place = resolveStore(store)
  const records =
    place === 'memory' ? createMemorySessionRecords(limits, clock) : createRedisSessionRecords(place, limits)

  const add = async (session: Omit<NewSession, 'key'>): Promise<IssuedSession> => {
    const id = newSessionId()
    const added = await records.add({ ...session, key: sessionKey(id)! })
    if (added === 'gone') throw new CredentialInvalid({ reason: 'session has ended' })
    if (added === 'expired') throw expired()
    return { id, expiresAt: added, csrfToken: csrfTokenOf(id) }
  }
  const signedInNow = ({ id }: Principal): number => Math.max(Math.floor(clock() / 1000), earliestIssue(id))
  const end = async (key: string | null): Promise<Principal | null> => {
    if (key === null || !isSessionKey(key)) return null
    return (await records.remove(key))?.principal ?? null
  }

  return {
    async create (principal, { address, userAgent, replaces } = {}) {
      assertSource(principal, clock())
      if (principal.authenticatedBy === 'session') {
        throw new CredentialRequestInvalid(
          'A session cannot come from another session; give the session a new id with renew'
        )
      }
      return await add({
        source: principal,
        signedInAt: signedInNow(principal),
        notAfter: principal.expiresAt,
        address: neutralised(address, 64),
        userAgent: neutralised(userAgent, 200),
        replaces: typeof replaces === 'string' ? sessionKey(replaces) : null,
        mustReplace: false
      })
    },
    async renew (id, principal) {
      assertSource(principal, clock())
      const key = sessionKey(id)
      const old = key === null ? null : await records.find(key, true)
      if (old === null) throw new CredentialInvalid({ reason: 'session has ended' })
      if (principal.kind !== old.source.kind || principal.id !== old.source.id) {
        throw new CredentialRequestInvalid(
          'A session is renewed for its own principal; somebody else needs one of their own'
        )
      }
      const { roles, scopes, expiresAt } = principal
      const anew = principal.authenticatedBy !== 'session'
      return await add({
        // What it came from stays what it lives by: its claims tell whether that was revoked.
        source: anew ? principal : { ...old.source, roles, scopes },
        signedInAt: anew ? signedInNow(principal) : old.signedInAt,
        notAfter: anew ? expiresAt : old.expiresAt,
        address: old.address,
        userAgent: old.userAgent,
        replaces: key,
        mustReplace: true
      })
    },
    get (id) {
      const key = sessionKey(id)
      if (key === null) return null
      const found = records.find(key, false)
      return found instanceof Promise ? found.then(record => record?.principal ?? null) : (found?.principal ?? null)
    },
    revoke: async id => (await end(sessionKey(id))) !== null,
    revokeByKey: async key => (await end(key)) !== null,
    revokeAll: async of => await records.removeAll(of),
    list: async (of = undefined) =>
      [...(await records.list(of ?? null))].sort((a, b) => b.usedAt - a.usedAt).map(infoOf),
    find: records.find,
    end
  }
}

function assertSource (principal: Principal, now: number): void {
  if (principal.kind === 'anonymous') {
    throw new CredentialRequestInvalid('A session needs a principal that has authenticated')
  }
  if (principal.expiresAt !== null && principal.expiresAt <= now) throw expired()
}

function expired (): InstanceType<typeof CredentialRequestInvalid> {
  return new CredentialRequestInvalid('The credential the session would come from has expired')
}

function infoOf ({
  key, principal: { id, kind, roles }, createdAt, usedAt, expiresAt, address, userAgent
}: SessionRecord): SessionInfo {
  return { key, id, kind, roles, createdAt, usedAt, expiresAt, address, userAgent }
}

/** What clients say of themselves ends up in lists, terminals and logs. */
function neutralised (text: string | null | undefined, maxLength: number): string | null {
  if (typeof text !== 'string') return null
  return text.slice(0, maxLength).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '\uFFFD')
}

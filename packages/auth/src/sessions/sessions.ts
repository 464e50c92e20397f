import { CredentialInvalid, type Principal } from '@marty/core'
import { CredentialRequestInvalid } from '../errors.js'
import { csrfTokenOf, isSessionKey, newSessionId, sessionKey } from './id.js'
import { createMemorySessionRecords } from './memory-store.js'
import { resolveSessionOptions, type SessionOptions } from './options.js'
import type { NewSession, SessionOwner, SessionRecord } from './records.js'
import { createRedisSessionRecords } from './redis-store.js'
import { resolveStore, type AuthStore } from '../store-options.js'

export interface IssuedSession {
  /** `ses_` and 256 random bits: a bearer credential that is never stored in plain text. */
  readonly id: string
  /** The latest time at which it ends, in milliseconds since the epoch. */
  readonly expiresAt: number
  /** The value of `X-CSRF-Token` for requests that change something and are authenticated by cookie. */
  readonly csrfToken: string
}

/** Public information about a session. Times are milliseconds since the epoch. */
export interface SessionInfo {
  /** SHA-256 of the session id. It identifies the session, but cannot be used as a credential. */
  readonly key: string
  readonly id: string
  readonly kind: Principal['kind']
  readonly roles: readonly string[]
  readonly createdAt: number
  readonly usedAt: number
  readonly expiresAt: number
  /** The client address at creation, if known. */
  readonly address: string | null
  /** The user agent at creation: at most 200 characters, without control or text direction characters. */
  readonly userAgent: string | null
}

/** The request that creates a session. Its address and user agent are shown in the list of sessions. */
export interface SessionDetails {
  readonly address?: string | null
  readonly userAgent?: string | null
  /** The id of a session that is ended in the same step: the one the browser sent when it signed in. */
  readonly replaces?: string | null
}

/**
 * Every function rejects with `MARTY_AUTH_STORE_UNAVAILABLE` when sessions are stored in Redis and it
 * does not respond.
 */
export interface Sessions {
  /**
   * Creates a session for a principal and returns its id. The session ends with the credential it was
   * created from. Beyond the limit per principal, the least recently used session ends.
   * Throws `MARTY_AUTH_REQUEST_INVALID` for an anonymous or expired principal and for one that was
   * authenticated by a session, and `MARTY_AUTH_CAPACITY_EXCEEDED` when memory is full.
   */
  create (principal: Principal, details?: SessionDetails): Promise<IssuedSession>
  /**
   * Replaces the session id when the principal's rights change, against session fixation (RFC 6265
   * section 8.4). The old id ends in the same step. A principal authenticated by the session keeps its
   * end time; one that has authenticated again gets a new one.
   * Throws `MARTY_CORE_CREDENTIAL_INVALID` when the session has ended, `MARTY_AUTH_REQUEST_INVALID`
   * when it belongs to another principal.
   */
  renew (id: string, principal: Principal): Promise<IssuedSession>
  /**
   * Returns the principal of a session; null when it has ended. Counts as use. A guarded route also
   * checks that the source credential is still valid.
   */
  get (id: string): Principal | null | Promise<Principal | null>
  /** Ends a session; false when there was none. Other replicas refuse it within a second. */
  revoke (id: string): Promise<boolean>
  /** Like `revoke`, by the session's key, for lists and the command line. */
  revokeByKey (key: string): Promise<boolean>
  /** Signs a principal out everywhere; returns how many sessions were ended. */
  revokeAll (of: SessionOwner): Promise<number>
  /** Lists all sessions, or those of one principal, most recently used first. */
  list (of?: SessionOwner): Promise<readonly SessionInfo[]>
}

/** The session functions that only the plugin uses. */
export interface SessionStore extends Sessions {
  /**
   * Finds a session by its key, which an authenticated principal carries. Counts as use, unless `peek`
   * is true.
   */
  find (key: string, peek: boolean): SessionRecord | null | Promise<SessionRecord | null>
  /** Ends a session and returns its principal; null when there was none. */
  end (key: string | null): Promise<Principal | null>
}

/**
 * Stores sessions, by the hash of their id, in memory or in Redis. Does not need Fastify. `clock`
 * returns milliseconds since the epoch; with Redis, the server's time is used for the limits.
 * `earliestIssue` must be that of the revocations that end sessions by subject: it keeps a sign-in in
 * the same second as a revocation from being revoked with it.
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
  const resolvedStore = resolveStore(store)
  const records = resolvedStore === 'memory'
    ? createMemorySessionRecords(limits, clock)
    : createRedisSessionRecords(resolvedStore, limits)

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
        address: sanitized(address, 64),
        userAgent: sanitized(userAgent, 200),
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
          'A session can only be renewed for its own principal; create another session for another principal'
        )
      }
      const { roles, scopes, expiresAt } = principal
      const isNewSignIn = principal.authenticatedBy !== 'session'
      return await add({
        // Keep the original source: its claims are needed to check whether it was revoked.
        source: isNewSignIn ? principal : { ...old.source, roles, scopes },
        signedInAt: isNewSignIn ? signedInNow(principal) : old.signedInAt,
        notAfter: isNewSignIn ? expiresAt : old.expiresAt,
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

/** Replaces control characters: client-supplied strings appear in lists, terminals and logs. */
function sanitized (text: string | null | undefined, maxLength: number): string | null {
  if (typeof text !== 'string') return null
  return text.slice(0, maxLength).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '\uFFFD')
}

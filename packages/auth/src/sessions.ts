import type { Principal } from '@marty/core'
import { createHash, randomBytes } from 'node:crypto'
import { AuthCapacityExceeded, CredentialRequestInvalid } from './errors.js'
import { integerOption } from './token-options.js'

export interface SessionOptions {
  /** A session nobody uses ends after this. Seconds. @default 1800 */
  readonly idleSeconds?: number
  /** A session ends after this, however busy. Seconds. @default 43200 */
  readonly absoluteSeconds?: number
  /** Sessions of one principal; the one used longest ago gives way. @default 16 */
  readonly maxPerPrincipal?: number
  /** Sessions in this process; beyond, none is made. @default 10000 */
  readonly maxSessions?: number
}

export interface IssuedSession {
  /** `ses_` and 256 random bits; a bearer credential, kept nowhere in the clear. */
  readonly id: string
  /** When it ends at the latest, in milliseconds since the epoch. */
  readonly expiresAt: number
}

export interface Sessions {
  /**
   * Remembers a principal, so that it can come back with the id. The session ends with the credential it came from.
   * Throws `MARTY_AUTH_REQUEST_INVALID` for nobody or an expired principal, `MARTY_AUTH_CAPACITY_EXCEEDED` when full.
   */
  create (principal: Principal): IssuedSession
  /** The principal, if the session is still good; counts as use. */
  get (id: string): Principal | null
  /** False when there was none. */
  revoke (id: string): boolean
  readonly size: number
}

/** A session as the guard needs it: by the id of an authenticated principal rather than by the credential. */
export interface SessionStore extends Sessions {
  /** The principal the session was made for; null when it is over. Counts as use. */
  sourceOf (principal: Principal): Principal | null
}

interface Session {
  readonly principal: Principal
  readonly source: Principal
  readonly expiresAt: number
  usedAt: number
}

export const SESSION_ID: RegExp = /^ses_[A-Za-z0-9_-]{43}$/

/** Keeps sessions in this process, by the hash of their id. `clock` tells the time in milliseconds since the epoch. */
export function createSessionStore (options: SessionOptions = {}, clock: () => number = Date.now): SessionStore {
  const idleMs = integerOption('sessions.idleSeconds', options.idleSeconds, 1, 86_400 * 365, 1_800) * 1000
  const absoluteMs = integerOption('sessions.absoluteSeconds', options.absoluteSeconds, 1, 86_400 * 365, 43_200) * 1000
  const maxPerPrincipal = integerOption('sessions.maxPerPrincipal', options.maxPerPrincipal, 1, 1_000_000, 16)
  const maxSessions = integerOption('sessions.maxSessions', options.maxSessions, 1, 1_000_000, 10_000)
  const sessions = new Map<string, Session>()
  const byPrincipal = new Map<string, Set<string>>()

  const drop = (key: string): boolean => {
    const session = sessions.get(key)
    if (session === undefined) return false
    sessions.delete(key)
    const owner = ownerOf(session.principal)
    const keys = byPrincipal.get(owner)
    keys?.delete(key)
    if (keys?.size === 0) byPrincipal.delete(owner)
    return true
  }
  const use = (key: string): Session | null => {
    const session = sessions.get(key)
    if (session === undefined) return null
    const now = clock()
    if (session.expiresAt <= now || session.usedAt + idleMs <= now) {
      drop(key)
      return null
    }
    session.usedAt = now
    return session
  }
  const dropOver = (): void => {
    const now = clock()
    for (const [key, session] of sessions) if (session.expiresAt <= now || session.usedAt + idleMs <= now) drop(key)
  }

  return {
    create (principal) {
      const now = clock()
      if (principal.kind === 'anonymous') throw new CredentialRequestInvalid('A session needs a principal that has authenticated')
      if (principal.expiresAt !== null && principal.expiresAt <= now) throw new CredentialRequestInvalid('The credential the session would come from has expired')
      if (sessions.size >= maxSessions) dropOver()
      if (sessions.size >= maxSessions) throw new AuthCapacityExceeded({ headers: { 'retry-after': '60' } })
      const owner = ownerOf(principal)
      const mine = byPrincipal.get(owner) ?? new Set<string>()
      if (mine.size >= maxPerPrincipal) drop([...mine].reduce((a, b) => sessions.get(a)!.usedAt <= sessions.get(b)!.usedAt ? a : b))

      const id = `ses_${randomBytes(32).toString('base64url')}`
      const key = keyOf(id)
      const expiresAt = Math.min(now + absoluteMs, principal.expiresAt ?? Infinity)
      const session: Session = {
        principal: Object.freeze({ ...principal, session: key, authenticatedBy: 'session', expiresAt }),
        source: principal,
        expiresAt,
        usedAt: now
      }
      sessions.set(key, session)
      byPrincipal.set(owner, mine.add(key))
      return { id, expiresAt }
    },
    get: id => SESSION_ID.test(id) ? use(keyOf(id))?.principal ?? null : null,
    sourceOf: principal => principal.session === null ? null : use(principal.session)?.source ?? null,
    revoke: id => drop(keyOf(id)),
    get size () { return sessions.size }
  }
}

function keyOf (id: string): string {
  return createHash('sha256').update(id).digest('base64url')
}

function ownerOf (principal: Principal): string {
  return `${principal.kind}:${principal.id}`
}

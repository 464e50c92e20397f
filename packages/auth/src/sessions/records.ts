import type { Principal } from '@marty/core'

/** A stored session, identified by the hash of its id. Times are milliseconds since the epoch. */
export interface SessionRecord {
  readonly key: string
  /** The credential that signed in. The session ends with it. */
  readonly source: Principal
  /** The principal of its requests: the source, authenticated by this session. */
  readonly principal: Principal
  /**
   * Time of the sign-in, for `revokeSubject`, which ends all sessions up to that time. Replicas take it
   * from their own clock, as they do for revocations, not from that of Redis. Seconds since the epoch.
   */
  readonly signedInAt: number
  readonly createdAt: number
  readonly usedAt: number
  readonly expiresAt: number
  readonly address: string | null
  readonly userAgent: string | null
}

export interface NewSession {
  readonly key: string
  readonly source: Principal
  readonly signedInAt: number
  /**
   * The latest time at which it ends, in addition to the absolute limit; null for none. Milliseconds
   * since the epoch.
   */
  readonly notAfter: number | null
  readonly address: string | null
  readonly userAgent: string | null
  /** The key of a session that is ended in the same step. */
  readonly replaces: string | null
  /** Whether to add the session only if the one in `replaces` still exists. */
  readonly mustReplace: boolean
}

/** Why a session was not added: the session it replaces has ended, or its end time has already passed. */
export type NotAdded = 'gone' | 'expired'

/**
 * The store of sessions. Every function is one atomic step, and returns only sessions that have not
 * ended.
 */
export interface SessionRecords {
  /**
   * Adds a session, and ends the principal's least recently used sessions beyond the limit. Returns the
   * latest time at which the new one ends.
   */
  add (session: NewSession): number | NotAdded | Promise<number | NotAdded>
  /** Finds a session. Counts as use, unless `peek` is true. */
  find (key: string, peek: boolean): SessionRecord | null | Promise<SessionRecord | null>
  /** Ends a session and returns it; null when there was none. */
  remove (key: string): SessionRecord | null | Promise<SessionRecord | null>
  /** Ends all sessions of a principal and returns their number. */
  removeAll (owner: SessionOwner): number | Promise<number>
  list (owner: SessionOwner | null): readonly SessionRecord[] | Promise<readonly SessionRecord[]>
}

export type SessionOwner = Pick<Principal, 'kind' | 'id'>

/** Limits that both the memory and the Redis store apply. */
export interface SessionLimits {
  readonly idleMs: number
  readonly absoluteMs: number
  readonly maxPerPrincipal: number
}

export function principalOf (key: string, source: Principal, expiresAt: number): Principal {
  return Object.freeze({ ...source, session: key, authenticatedBy: 'session', expiresAt })
}

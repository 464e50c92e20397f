import type { Principal } from '@marty/core'

/** A session as it is kept: by the hash of its id. Times are milliseconds since the epoch. */
export interface SessionRecord {
  readonly key: string
  /** What signed in: the session lives only as long as this does. */
  readonly source: Principal
  /** Who its requests come from: the source, authenticated by this session. */
  readonly principal: Principal
  /** By the clock of whoever revokes, for `revokeSubject`: what signed in up to then has ended. Seconds since the epoch. */
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
  /** When it must end at the latest, besides the absolute limit. Milliseconds since the epoch; null for no such time. */
  readonly notAfter: number | null
  readonly address: string | null
  readonly userAgent: string | null
  /** The key of a session that ends in the same step. */
  readonly replaces: string | null
  /** Whether nothing happens unless that session is there to be replaced. */
  readonly mustReplace: boolean
}

/** Why a session was not added: what it replaces is over, or its time is over before it began. */
export type NotAdded = 'gone' | 'expired'

/** Where sessions are kept. Every function is one atomic step, and answers only what has not ended. */
export interface SessionRecords {
  /** Ends the sessions beyond the principal's limit too, those used longest ago first. Answers when it ends at the latest. */
  add (session: NewSession): number | NotAdded | Promise<number | NotAdded>
  /** Counts as use, unless it is a `peek`. */
  find (key: string, peek: boolean): SessionRecord | null | Promise<SessionRecord | null>
  /** The session that was ended; null when there was none. */
  remove (key: string): SessionRecord | null | Promise<SessionRecord | null>
  /** How many were ended. */
  removeAll (owner: SessionOwner): number | Promise<number>
  list (owner: SessionOwner | null): readonly SessionRecord[] | Promise<readonly SessionRecord[]>
}

export type SessionOwner = Pick<Principal, 'kind' | 'id'>

/** The limits both places keep. */
export interface SessionLimits {
  readonly idleMs: number
  readonly absoluteMs: number
  readonly maxPerPrincipal: number
}

export function principalOf (key: string, source: Principal, expiresAt: number): Principal {
  return Object.freeze({ ...source, session: key, authenticatedBy: 'session', expiresAt })
}

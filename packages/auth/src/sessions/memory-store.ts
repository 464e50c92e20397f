import { AuthCapacityExceeded } from '../errors.js'
import {
  principalOf, type SessionLimits, type SessionOwner, type SessionRecord, type SessionRecords
} from './records.js'

type Kept = SessionRecord & { usedAt: number }

/** Stores sessions in this process. `clock` returns milliseconds since the epoch. */
export function createMemorySessionRecords (
  limits: SessionLimits & { readonly maxSessions: number },
  clock: () => number
): SessionRecords {
  const { idleMs, absoluteMs, maxPerPrincipal, maxSessions } = limits
  const sessions = new Map<string, Kept>()
  const byOwner = new Map<string, Set<string>>()

  const alive = (key: string): Kept | null => {
    const session = sessions.get(key)
    if (session === undefined) return null
    const now = clock()
    if (session.expiresAt > now && session.usedAt + idleMs > now) return session
    drop(session)
    return null
  }
  const drop = ({ key, principal }: Kept): void => {
    sessions.delete(key)
    const owner = ownerOf(principal)
    const keys = byOwner.get(owner)!
    keys.delete(key)
    if (keys.size === 0) byOwner.delete(owner)
  }
  const aliveOf = (keys: Iterable<string>): Kept[] => [...keys].map(alive).filter(session => session !== null)
  const ofOwner = (owner: SessionOwner): Kept[] => aliveOf(byOwner.get(ownerOf(owner)) ?? [])

  return {
    add ({ key, source, signedInAt, notAfter, address, userAgent, replaces, mustReplace }) {
      const now = clock()
      const expiresAt = Math.min(now + absoluteMs, notAfter ?? Infinity)
      if (expiresAt <= now) return 'expired'
      const replaced = replaces === null ? null : alive(replaces)
      if (mustReplace && replaced === null) return 'gone'
      if (sessions.size >= maxSessions && replaced === null) {
        for (const one of sessions.keys()) alive(one)
        if (sessions.size >= maxSessions) throw new AuthCapacityExceeded({ headers: { 'retry-after': '60' } })
      }
      if (replaced !== null) drop(replaced)
      const mine = ofOwner(source).sort((a, b) => a.usedAt - b.usedAt)
      for (const oldest of mine.slice(0, Math.max(0, mine.length - maxPerPrincipal + 1))) drop(oldest)
      sessions.set(key, {
        key,
        source,
        principal: principalOf(key, source, expiresAt),
        signedInAt,
        createdAt: now,
        usedAt: now,
        expiresAt,
        address,
        userAgent
      })
      const owner = ownerOf(source)
      byOwner.set(owner, (byOwner.get(owner) ?? new Set()).add(key))
      return expiresAt
    },
    find (key, peek) {
      const session = alive(key)
      if (session !== null && !peek) session.usedAt = clock()
      return session
    },
    remove (key) {
      const session = alive(key)
      if (session !== null) drop(session)
      return session
    },
    removeAll (owner) {
      const mine = ofOwner(owner)
      for (const session of mine) drop(session)
      return mine.length
    },
    list: owner => (owner === null ? aliveOf(sessions.keys()) : ofOwner(owner)).map(session => ({ ...session }))
  }
}

function ownerOf ({ kind, id }: SessionOwner): string {
  return `${kind}:${id}`
}

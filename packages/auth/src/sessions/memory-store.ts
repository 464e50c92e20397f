import { AuthCapacityExceeded } from '../errors.js'
import {
  principalOf, type SessionLimits, type SessionOwner, type SessionRecord, type SessionRecords
} from './records.js'

type StoredSession = SessionRecord & { usedAt: number }

/** Stores sessions in this process. `clock` returns milliseconds since the epoch. */
export function createMemorySessionRecords (
  limits: SessionLimits & { readonly maxSessions: number },
  clock: () => number
): SessionRecords {
  const { idleMs, absoluteMs, maxPerPrincipal, maxSessions } = limits
  const sessions = new Map<string, StoredSession>()
  const byOwner = new Map<string, Set<string>>()

  const findActive = (key: string): StoredSession | null => {
    const session = sessions.get(key)
    if (session === undefined) return null
    const now = clock()
    if (session.expiresAt > now && session.usedAt + idleMs > now) return session
    remove(session)
    return null
  }
  const remove = ({ key, principal }: StoredSession): void => {
    sessions.delete(key)
    const owner = ownerOf(principal)
    const keys = byOwner.get(owner)!
    keys.delete(key)
    if (keys.size === 0) byOwner.delete(owner)
  }
  const activeOf = (keys: Iterable<string>): StoredSession[] => {
    return [...keys].map(findActive).filter(session => session !== null)
  }
  const activeOfOwner = (owner: SessionOwner): StoredSession[] => activeOf(byOwner.get(ownerOf(owner)) ?? [])

  return {
    add ({ key, source, signedInAt, notAfter, address, userAgent, replaces, mustReplace }) {
      const now = clock()
      const expiresAt = Math.min(now + absoluteMs, notAfter ?? Infinity)
      if (expiresAt <= now) return 'expired'
      const replaced = replaces === null ? null : findActive(replaces)
      if (mustReplace && replaced === null) return 'gone'
      if (sessions.size >= maxSessions && replaced === null) {
        for (const one of sessions.keys()) findActive(one)
        if (sessions.size >= maxSessions) throw new AuthCapacityExceeded({ headers: { 'retry-after': '60' } })
      }
      if (replaced !== null) remove(replaced)
      const owned = activeOfOwner(source).sort((a, b) => a.usedAt - b.usedAt)
      for (const oldest of owned.slice(0, Math.max(0, owned.length - maxPerPrincipal + 1))) remove(oldest)
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
      const session = findActive(key)
      if (session !== null && !peek) session.usedAt = clock()
      return session
    },
    remove (key) {
      const session = findActive(key)
      if (session !== null) remove(session)
      return session
    },
    removeAll (owner) {
      const owned = activeOfOwner(owner)
      for (const session of owned) remove(session)
      return owned.length
    },
    list: owner => (owner === null ? activeOf(sessions.keys()) : activeOfOwner(owner)).map(session => ({ ...session }))
  }
}

function ownerOf ({ kind, id }: SessionOwner): string {
  return `${kind}:${id}`
}

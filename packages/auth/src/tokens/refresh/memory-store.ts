import { AuthCapacityExceeded } from '../../errors.js'
import type { RefreshLimits, RefreshStore } from './store.js'
import { createSweep } from '../../sweep.js'

interface Family {
  readonly sid: string
  readonly owner: string
  readonly data: string
  readonly endsAt: number
  current: string
  previous: string | null
  rotatedAt: number
  ended: 'reused' | 'revoked' | null
}

/**
 * Stores at most `max` families in this process. When it is full, a new family replaces the owner's own
 * least recently used one; an owner without a family is refused. No owner displaces another.
 */
export function createMemoryRefreshStore (limits: RefreshLimits, max: number, clock: () => number): RefreshStore {
  const families = new Map<string, Family>()
  /** The families of each owner, ordered by last use. A clock that is set back does not change the order. */
  const byOwner = new Map<string, Set<Family>>()
  const expiryOf = ({ rotatedAt, endsAt }: Family): number => Math.min(rotatedAt + limits.idleSeconds * 1000, endsAt)
  const hasEnded = (family: Family): boolean => expiryOf(family) <= clock()
  const sweep = createSweep(families, hasEnded, removeFromOwner)
  const find = (sid: string): Family | undefined => {
    const family = families.get(sid)
    return family === undefined || hasEnded(family) ? undefined : family
  }

  function removeFromOwner (family: Family): void {
    const ofOwner = byOwner.get(family.owner)!
    ofOwner.delete(family)
    if (ofOwner.size === 0) byOwner.delete(family.owner)
  }

  function remove (family: Family): void {
    families.delete(family.sid)
    removeFromOwner(family)
  }

  /** Removes the owner's families that have ended, and those that must make room; returns the latter. */
  function makeRoom (owner: string): Family[] {
    const ofOwner = [...byOwner.get(owner) ?? []]
    for (const family of ofOwner.filter(hasEnded)) remove(family)
    const remaining = ofOwner.filter(family => families.has(family.sid))
    const surplus = Math.max(remaining.length + 1 - limits.maxPerSubject, families.size + 1 - max)
    const displaced = remaining.slice(0, Math.max(0, surplus))
    for (const family of displaced) remove(family)
    return displaced
  }

  return {
    async create ({ sid, owner, current, data, notAfter }) {
      sweep(families.size < max ? 100 : 10_000)
      const displaced = makeRoom(owner)
      if (families.size >= max) throw new AuthCapacityExceeded({ headers: { 'retry-after': '60' } })
      const now = clock()
      const endsAt = Math.min(now + limits.absoluteSeconds * 1000, notAfter ?? Infinity)
      const family: Family = { sid, owner, data, endsAt, current, previous: null, rotatedAt: now, ended: null }
      families.set(sid, family)
      byOwner.set(owner, (byOwner.get(owner) ?? new Set()).add(family))
      return { expiresAt: expiryOf(family), displaced: displaced.filter(({ ended }) => ended === null) }
    },
    async rotate (sid, presented, successor) {
      const family = find(sid)
      if (family === undefined) return null
      const now = clock()
      const { data } = family
      if (family.ended === null && presented === family.current) {
        Object.assign(family, { current: successor, previous: presented, rotatedAt: now })
        const ofOwner = byOwner.get(family.owner)!
        ofOwner.delete(family)
        ofOwner.add(family)
        return { outcome: 'rotated', data, expiresAt: expiryOf(family) }
      }
      if (
        family.ended === null &&
        presented === family.previous &&
        successor === family.current &&
        now - family.rotatedAt < limits.graceSeconds * 1000
      ) {
        return { outcome: 'replayed', data, expiresAt: expiryOf(family) }
      }
      family.ended ??= 'reused'
      return { outcome: family.ended, data, expiresAt: expiryOf(family) }
    },
    async read (sid) {
      const family = find(sid)
      return family === undefined
        ? null
        : { data: family.data, current: family.current, isEnded: family.ended !== null, expiresAt: expiryOf(family) }
    },
    async end (sid) {
      const family = find(sid)
      if (family === undefined) return null
      family.ended ??= 'revoked'
      return family.data
    },
    async remove (sid) {
      const family = find(sid)
      if (family !== undefined) remove(family)
      return family !== undefined
    }
  }
}

import { AuthCapacityExceeded } from './errors.js'
import type { RefreshLimits, RefreshStore } from './refresh-store.js'
import { createSweep } from './sweep.js'

interface Family {
  readonly data: string
  readonly endsAt: number
  current: string
  previous: string | null
  rotatedAt: number
  ended: 'reused' | 'revoked' | null
}

/** Keeps at most `max` families in this process; beyond, none is made. */
export function createMemoryRefreshStore (limits: RefreshLimits, max: number, clock: () => number): RefreshStore {
  const families = new Map<string, Family>()
  const expiryOf = ({ rotatedAt, endsAt }: Family): number => Math.min(rotatedAt + limits.idleSeconds * 1000, endsAt)
  const sweep = createSweep(families, family => expiryOf(family) <= clock())
  const find = (sid: string): Family | undefined => {
    const family = families.get(sid)
    return family === undefined || expiryOf(family) <= clock() ? undefined : family
  }

  return {
    async create (sid, current, data, notAfter) {
      sweep(families.size < max ? 100 : 10_000)
      if (families.size >= max) throw new AuthCapacityExceeded({ headers: { 'retry-after': '60' } })
      const now = clock()
      const endsAt = Math.min(now + limits.absoluteSeconds * 1000, notAfter ?? Infinity)
      const family: Family = { data, endsAt, current, previous: null, rotatedAt: now, ended: null }
      families.set(sid, family)
      return expiryOf(family)
    },
    async rotate (sid, presented, successor) {
      const family = find(sid)
      if (family === undefined) return null
      const now = clock()
      const { data } = family
      if (family.ended === null && presented === family.current) {
        Object.assign(family, { current: successor, previous: presented, rotatedAt: now })
        return { outcome: 'rotated', data, expiresAt: expiryOf(family) }
      }
      if (family.ended === null && presented === family.previous && successor === family.current && now - family.rotatedAt < limits.graceSeconds * 1000) {
        return { outcome: 'replayed', data, expiresAt: expiryOf(family) }
      }
      family.ended ??= 'reused'
      return { outcome: family.ended, data, expiresAt: expiryOf(family) }
    },
    async read (sid) {
      const family = find(sid)
      return family === undefined ? null : { data: family.data, current: family.current, isEnded: family.ended !== null, expiresAt: expiryOf(family) }
    },
    async end (sid) {
      const family = find(sid)
      if (family === undefined) return null
      family.ended ??= 'revoked'
      return family.data
    },
    remove: async sid => find(sid) !== undefined && families.delete(sid)
  }
}

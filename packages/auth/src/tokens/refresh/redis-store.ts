import { CREATE, END, READ, REMOVE, ROTATE } from './redis-scripts.js'
import type { CreatedRefreshFamily, RefreshLimits, RefreshRotation, RefreshStore } from './store.js'
import type { RedisAuthStore } from '../../store-options.js'
import { storeScript, type StoreScript } from '../../store-script.js'

/**
 * Stores families in Redis: one key per family, which expires with it, and one index per owner, which
 * expires with the owner's last family. All keys have the same hash tag, so that each step is a single
 * script in a cluster too.
 */
export function createRedisRefreshStore (
  { redis, prefix }: Required<RedisAuthStore>,
  limits: RefreshLimits
): RefreshStore {
  const base = `{${prefix}}:refresh`
  const [create, rotate, read, end, remove] = [CREATE, ROTATE, READ, END, REMOVE].map(lua =>
    storeScript(redis, lua)
  ) as [StoreScript, StoreScript, StoreScript, StoreScript, StoreScript]
  const idleMs = limits.idleSeconds * 1000

  /** Families created before keys had a hash tag and an index keep their old key until they end. */
  async function onFamily (step: StoreScript, sid: string, ...args: ReadonlyArray<string | number>): Promise<unknown> {
    return (
      (await step([`${base}:${sid}`], [base, sid, ...args])) ??
      (await step([`${prefix}:refresh:${sid}`], [base, sid, ...args]))
    )
  }

  return {
    async create ({ sid, owner, current, data, notAfter }) {
      const args = [
        base,
        sid,
        current,
        data,
        idleMs,
        limits.absoluteSeconds * 1000,
        owner,
        limits.maxPerSubject,
        notAfter ?? ''
      ]
      const [expiresAt, ...rest] = (await create([`${base}:${sid}`], args)) as [number, ...string[]]
      const displaced: Array<CreatedRefreshFamily['displaced'][number]> = []
      for (let i = 0; i < rest.length; i += 2) displaced.push({ sid: rest[i]!, data: rest[i + 1]! })
      return { expiresAt, displaced }
    },
    async rotate (sid, presented, successor) {
      const reply = (await onFamily(rotate, sid, presented, successor, limits.graceSeconds * 1000, idleMs)) as
        [RefreshRotation['outcome'], string, number] | null
      return reply === null ? null : { outcome: reply[0], data: reply[1], expiresAt: reply[2] }
    },
    async read (sid) {
      const reply = (await onFamily(read, sid)) as [string, string, string, number] | null
      return reply === null
        ? null
        : { data: reply[0], current: reply[1], isEnded: reply[2] !== '', expiresAt: reply[3] }
    },
    end: async sid => (await onFamily(end, sid)) as string | null,
    remove: async sid => (await onFamily(remove, sid)) === 1
  }
}

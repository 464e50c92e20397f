import type { SessionRecord } from './records.js'

export interface SessionCache {
  /** Returns the cached session, or reads it. Concurrent calls share one read. */
  find (key: string, peek: boolean): SessionRecord | null | Promise<SessionRecord | null>
  /**
   * Runs `work`, which ends the session of `key` (null: any number of sessions), and drops it from the
   * cache. Reads that began before `work` finished are not cached.
   */
  forget<T> (key: string | null, work: () => Promise<T>): Promise<T>
}

interface Entry {
  readonly record: SessionRecord
  /** Time until which the cached record is valid, on the monotonic clock of the process. */
  readonly until: number
  /** Time until which further use need not be reported to the store. */
  readonly usedUntil: number
}

const MAX_ENTRIES = 10_000

/**
 * Caches each session for `freshMs`, or until it ends if that is sooner. Use is reported to the store
 * again after `usedMs`. A session in constant use therefore costs one read per such interval.
 */
export function createSessionCache (
  freshMs: number,
  usedMs: number,
  read: (key: string, peek: boolean) => Promise<{ readonly record: SessionRecord, readonly leftMs: number } | null>
): SessionCache {
  const entries = new Map<string, Entry>()
  const reading = new Map<string, Promise<SessionRecord | null>>()
  let epoch = 0

  const readNow = async (key: string, peek: boolean): Promise<SessionRecord | null> => {
    const [since, asked] = [epoch, performance.now()]
    const found = await read(key, peek)
    if (since !== epoch) return found?.record ?? null
    const usedUntil = peek ? (entries.get(key)?.usedUntil ?? 0) : asked + usedMs
    entries.delete(key)
    if (found === null) return null
    entries.set(key, { record: found.record, until: asked + Math.min(freshMs, found.leftMs), usedUntil })
    // Maps iterate in order of insertion: the first is the one read longest ago.
    if (entries.size > MAX_ENTRIES) entries.delete(entries.keys().next().value!)
    return found.record
  }
  const clear = (key: string | null): void => {
    epoch++
    reading.clear()
    if (key === null) entries.clear()
    else entries.delete(key)
  }

  return {
    find (key, peek) {
      const now = performance.now()
      const entry = entries.get(key)
      if (entry !== undefined && now < entry.until && (peek || now < entry.usedUntil)) return entry.record
      const name = `${peek ? 'peek' : 'use'}:${key}`
      const running = reading.get(name)
      if (running !== undefined) return running
      const started = readNow(key, peek).finally(() => {
        if (reading.get(name) === started) reading.delete(name)
      })
      reading.set(name, started)
      return started
    },
    async forget (key, work) {
      clear(key)
      try {
        return await work()
      } finally {
        clear(key)
      }
    }
  }
}

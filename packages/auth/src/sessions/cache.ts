import type { SessionRecord } from './records.js'

export interface SessionCache {
  /** What was read a moment ago, or is read now: at most one read of a session at a time. */
  find (key: string, peek: boolean): SessionRecord | null | Promise<SessionRecord | null>
  /** Ends the session of `key` (null for any number of them), here at once: what was read before `work` was done counts no more. */
  forget<T> (key: string | null, work: () => Promise<T>): Promise<T>
}

interface Entry {
  readonly record: SessionRecord
  /** Until when it may be taken for true, on the process's own steady clock. */
  readonly until: number
  /** Until when using it need not be told again. */
  readonly usedUntil: number
}

const MAX_ENTRIES = 10_000

/** Remembers each session for `freshMs`, or less when it ends sooner, and that its use was told for `usedMs`: so often a busy one costs a read. */
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

import type { ApiKeyStore } from './store.js'

const MINUTE_MS = 60_000
const WRITE_USED_MS = 1_000

export interface Uses {
  note (keyId: string): void
  all (): Promise<ReadonlyMap<string, number>>
  close (): Promise<void>
}

/**
 * Records when keys were last used, to the minute. Times are written in the background, so that no
 * request waits.
 */
export function createUses (store: ApiKeyStore, onProblem: ((error: unknown) => void) | undefined): Uses {
  const isDue = onceAMinute()
  let waiting = new Map<string, number>()
  let timer: NodeJS.Timeout | null = null
  let written: Promise<void> = Promise.resolve()

  /** Settles when this write and all earlier ones are done. */
  const write = async (): Promise<void> => {
    timer = null
    const used = waiting
    waiting = new Map()
    if (used.size > 0) {
      written = written
        .then(async () => {
          await store.touch(used)
        })
        .catch((error: unknown) => {
          onProblem?.(error)
        })
    }
    await written
  }

  return {
    note (keyId) {
      if (!isDue(keyId)) return
      waiting.set(keyId, Date.now())
      timer ??= setTimeout(() => { void write() }, WRITE_USED_MS).unref()
    },
    all: async () => new Map([...await store.lastUsed(), ...waiting]),
    async close () {
      if (timer !== null) clearTimeout(timer)
      await write()
    }
  }
}

/** Returns a function that is true once a minute for each key. */
export function onceAMinute (): (keyId: string) => boolean {
  const seen = new Map<string, number>()
  return keyId => {
    const now = Date.now()
    if (now - (seen.get(keyId) ?? 0) < MINUTE_MS) return false
    seen.set(keyId, now)
    // Operators create the keys, so there are never many; entries of removed keys may be dropped.
    if (seen.size > 10_000) seen.delete(seen.keys().next().value!)
    return true
  }
}

import type { ApiKeyStore } from './api-key-store.js'

const USED_EVERY_MS = 60_000
const WRITE_USED_MS = 1_000

export interface Uses {
  /** True once in a minute for each key. */
  note (keyId: string): boolean
  all (): Promise<ReadonlyMap<string, number>>
  close (): Promise<void>
}

/** When keys were last used: to the minute, and written beside the requests, because none should wait for that. */
export function createUses (store: ApiKeyStore, onProblem: ((error: unknown) => void) | undefined): Uses {
  const noted = new Map<string, number>()
  let waiting = new Map<string, number>()
  let timer: NodeJS.Timeout | null = null

  const write = async (): Promise<void> => {
    timer = null
    const used = waiting
    waiting = new Map()
    if (used.size === 0) return
    await store.touch(used).catch((error: unknown) => { onProblem?.(error) })
  }

  return {
    note (keyId) {
      const now = Date.now()
      if (now - (noted.get(keyId) ?? 0) < USED_EVERY_MS) return false
      noted.set(keyId, now)
      // Keys are made by operators, so there are never many; those that are gone need no place.
      if (noted.size > 10_000) noted.delete(noted.keys().next().value!)
      waiting.set(keyId, now)
      timer ??= setTimeout(() => { void write() }, WRITE_USED_MS).unref()
      return true
    },
    all: async () => new Map([...await store.lastUsed(), ...waiting]),
    async close () {
      if (timer !== null) clearTimeout(timer)
      await write()
    }
  }
}

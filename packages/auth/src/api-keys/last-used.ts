import type { ApiKeyStore } from './store.js'

const MINUTE_MS = 60_000
const WRITE_DELAY_MS = 1_000
const MAX_KEYS = 10_000

/**
 * Records when keys were last used, to the minute. Times are written in the background, so that no
 * request waits.
 */
export class LastUsedTimes {
  readonly #store: ApiKeyStore
  readonly #onProblem: (error: unknown) => void
  readonly #isDue = onceAMinute()
  #pending = new Map<string, number>()
  #timer: NodeJS.Timeout | null = null
  /** Settles when all writes so far are done. */
  #written: Promise<void> = Promise.resolve()

  constructor (store: ApiKeyStore, onProblem: (error: unknown) => void = () => {}) {
    this.#store = store
    this.#onProblem = onProblem
  }

  record (keyId: string): void {
    if (!this.#isDue(keyId)) return
    this.#pending.set(keyId, Date.now())
    this.#timer ??= setTimeout(() => { void this.#write() }, WRITE_DELAY_MS).unref()
  }

  /** Returns the recorded times, including those that are not written yet. */
  async all (): Promise<ReadonlyMap<string, number>> {
    return new Map([...await this.#store.lastUsed(), ...this.#pending])
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#write()
  }

  async #write (): Promise<void> {
    this.#timer = null
    const times = this.#pending
    this.#pending = new Map()
    if (times.size > 0) {
      this.#written = this.#written.then(async () => { await this.#store.touch(times) }).catch(this.#onProblem)
    }
    await this.#written
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
    if (seen.size > MAX_KEYS) seen.delete(seen.keys().next().value!)
    return true
  }
}

/** Caches keys that were verified, so that the next request does not need a hash. */
export interface VerifiedKeyCache {
  /** Returns the entry, if the record has not changed since. */
  get (key: string, version: number): VerifiedKey | null
  add (key: string, verified: { readonly version: number, readonly secretId: string }): void
  drop (key: string): void
}

export interface VerifiedKey {
  readonly secretId: string
  /**
   * Whether the entry is recent enough to be used. If not, the key is hashed again, but before keys
   * that were never verified.
   */
  readonly isFresh: boolean
  /**
   * Whether the entry will expire soon. It should be hashed again now, before a request has to wait for
   * that.
   */
  readonly isAging: boolean
}

interface Entry {
  readonly version: number
  readonly secretId: string
  readonly until: number
}

/** Creates the cache. An entry is aging once three quarters of its time have passed. */
export function createVerifiedKeyCache ({
  maxEntries,
  ttlMs
}: {
  readonly maxEntries: number
  readonly ttlMs: number
}): VerifiedKeyCache {
  const entries = new Map<string, Entry>()
  return {
    get (key, version) {
      const entry = entries.get(key)
      if (entry === undefined) return null
      if (entry.version !== version) {
        entries.delete(key)
        return null
      }
      const leftMs = entry.until - Date.now()
      return { secretId: entry.secretId, isFresh: leftMs > 0, isAging: leftMs <= ttlMs / 4 }
    },
    add (key, { version, secretId }) {
      entries.delete(key)
      entries.set(key, { version, secretId, until: Date.now() + ttlMs })
      // Maps iterate in order of insertion: the first is the oldest.
      if (entries.size > maxEntries) entries.delete(entries.keys().next().value!)
    },
    drop (key) {
      entries.delete(key)
    }
  }
}

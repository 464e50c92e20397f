/** Keys that were verified earlier, so that the next request need not hash again. */
export interface VerifiedCache {
  /** What was verified, if the record has not changed since. */
  get (key: string, version: number): Verified | null
  add (key: string, verified: { readonly version: number, readonly secretId: string }): void
  drop (key: string): void
}

export interface Verified {
  readonly secretId: string
  /** Whether it was verified recently enough to count. If not, it is hashed again, but before strangers' keys. */
  readonly isFresh: boolean
  /** Whether it will soon count no longer: the time to hash it again before somebody has to wait for that. */
  readonly isAging: boolean
}

interface Entry {
  readonly version: number
  readonly secretId: string
  readonly until: number
}

/** An entry ages when three quarters of its time are over. */
export function createVerifiedCache ({
  maxEntries,
  ttlMs
}: {
  readonly maxEntries: number
  readonly ttlMs: number
}): VerifiedCache {
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

/** Keys that were verified earlier, so that the next request need not hash again. */
export interface VerifiedCache {
  /** What was verified, if the record has not changed since. */
  get (key: string, version: number): Verified | null
  add (key: string, verified: { readonly version: number, readonly secretId: string }): void
}

export interface Verified {
  readonly secretId: string
  /** Whether it was verified recently enough to count. If not, it is hashed again, but before strangers' keys. */
  readonly isFresh: boolean
}

interface Entry {
  readonly version: number
  readonly secretId: string
  readonly until: number
}

export function createVerifiedCache ({ maxEntries, ttlMs }: { readonly maxEntries: number, readonly ttlMs: number }): VerifiedCache {
  const entries = new Map<string, Entry>()
  return {
    get (key, version) {
      const entry = entries.get(key)
      if (entry === undefined) return null
      if (entry.version !== version) {
        entries.delete(key)
        return null
      }
      return { secretId: entry.secretId, isFresh: entry.until > Date.now() }
    },
    add (key, { version, secretId }) {
      entries.delete(key)
      entries.set(key, { version, secretId, until: Date.now() + ttlMs })
      // Maps iterate in order of insertion: the first is the oldest.
      if (entries.size > maxEntries) entries.delete(entries.keys().next().value!)
    }
  }
}

/** Keys that were verified a moment ago, so that the next request need not hash again. */
export interface VerifiedCache {
  /** The secret that was verified, if the record has not changed since and it is recent. */
  get (key: string, version: number): string | null
  add (key: string, verified: { readonly version: number, readonly secretId: string }): void
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
      if (entry.version !== version || entry.until <= Date.now()) {
        entries.delete(key)
        return null
      }
      return entry.secretId
    },
    add (key, { version, secretId }) {
      entries.delete(key)
      entries.set(key, { version, secretId, until: Date.now() + ttlMs })
      // Maps iterate in order of insertion: the first is the oldest.
      if (entries.size > maxEntries) entries.delete(entries.keys().next().value!)
    }
  }
}

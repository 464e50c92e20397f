import type { ApiKeyRecord, ApiKeyStore } from './store.js'

/** Stores API keys in this process, for tests and short-lived services. */
export function createMemoryApiKeyStore (): ApiKeyStore {
  const records = new Map<string, ApiKeyRecord>()
  const usedAt = new Map<string, number>()
  return {
    get: keyId => records.get(keyId) ?? null,
    list: async () => [...records.values()],
    async put (record, expectedVersion) {
      if ((records.get(record.keyId)?.version ?? null) !== expectedVersion) return false
      records.set(record.keyId, Object.freeze(structuredClone(record)))
      return true
    },
    async delete (keyId) {
      usedAt.delete(keyId)
      return records.delete(keyId)
    },
    async touch (used) { for (const [keyId, time] of used) if (records.has(keyId)) usedAt.set(keyId, time) },
    lastUsed: async () => usedAt
  }
}

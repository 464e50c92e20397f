import type { ApiKeyRecord, ApiKeyStore } from './api-key-store.js'

/** Keeps API keys in this process, for tests and throw-away services. */
export function createMemoryApiKeyStore (): ApiKeyStore {
  const records = new Map<string, ApiKeyRecord>()
  return {
    get: keyId => records.get(keyId) ?? null,
    list: async () => [...records.values()],
    async put (record, expectedVersion) {
      if ((records.get(record.keyId)?.version ?? null) !== expectedVersion) return false
      records.set(record.keyId, Object.freeze(structuredClone(record)))
      return true
    },
    delete: async keyId => records.delete(keyId)
  }
}

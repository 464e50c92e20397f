import { KEY_ID } from './format.js'

/** One secret of a key. A key has two while it is being rotated. */
export interface ApiKeySecret {
  readonly id: string
  readonly algorithm: 'bcrypt' | 'hmac-sha256'
  readonly hash: string
  /** Id of the pepper with which the hash was made. */
  readonly pepperId: string
  readonly createdAt: number
  readonly expiresAt: number
}

/** A stored API key. Times are milliseconds since the epoch. */
export interface ApiKeyRecord {
  readonly keyId: string
  /** A name for people to read. */
  readonly name: string
  readonly roles: readonly string[]
  readonly scopes: readonly string[]
  /** Networks from which the key may be used; without any, from all addresses. */
  readonly cidrs?: readonly string[]
  readonly createdAt: number
  readonly expiresAt: number
  readonly revokedAt: number | null
  /** Increases by one with each change; caches are bound to it. */
  readonly version: number
  /** Newest first. */
  readonly secrets: readonly ApiKeySecret[]
}

/** A store of API keys. All implementations follow the same contract. They hold hashes, never secrets. */
export interface ApiKeyStore {
  get (keyId: string): ApiKeyRecord | null | Promise<ApiKeyRecord | null>
  /** Returns all keys in order of creation. */
  list (): Promise<readonly ApiKeyRecord[]>
  /**
   * Writes the record if the stored one still has `expectedVersion` (null: if none exists); false
   * otherwise. After `true`, the record survives a crash as far as the store can ensure it.
   */
  put (record: ApiKeyRecord, expectedVersion: number | null): Promise<boolean>
  /** Deletes a key; false when it did not exist. */
  delete (keyId: string): Promise<boolean>
  /**
   * Records when keys were last used. This is kept apart from the records, because it does not change a
   * key.
   */
  touch (used: ReadonlyMap<string, number>): Promise<void>
  /** Returns when keys were last used, as far as recorded. */
  lastUsed (): Promise<ReadonlyMap<string, number>>
}

/** Whether a record that was read is complete: a torn or edited one must not count as a key. */
export function isApiKeyRecord (value: unknown): value is ApiKeyRecord {
  if (typeof value !== 'object' || value === null) return false
  const record = value as Partial<Record<keyof ApiKeyRecord, unknown>>
  return (
    typeof record.keyId === 'string' &&
    KEY_ID.test(record.keyId) &&
    typeof record.name === 'string' &&
    isStrings(record.roles) &&
    isStrings(record.scopes) &&
    (record.cidrs === undefined || isStrings(record.cidrs)) &&
    Number.isSafeInteger(record.createdAt) &&
    Number.isSafeInteger(record.expiresAt) &&
    (record.revokedAt === null || Number.isSafeInteger(record.revokedAt)) &&
    Number.isSafeInteger(record.version) &&
    Array.isArray(record.secrets) &&
    record.secrets.every(isSecret)
  )
}

function isSecret (value: unknown): value is ApiKeySecret {
  if (typeof value !== 'object' || value === null) return false
  const secret = value as Partial<Record<keyof ApiKeySecret, unknown>>
  return (
    typeof secret.id === 'string' &&
    (secret.algorithm === 'bcrypt' || secret.algorithm === 'hmac-sha256') &&
    typeof secret.hash === 'string' &&
    typeof secret.pepperId === 'string' &&
    Number.isSafeInteger(secret.createdAt) &&
    Number.isSafeInteger(secret.expiresAt)
  )
}

function isStrings (value: unknown): value is string[] {
  return Array.isArray(value) && value.every(one => typeof one === 'string')
}

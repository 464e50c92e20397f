import { KEY_ID } from './format.js'

/** One secret of a key. A key has two while it is being rotated. */
export interface ApiKeySecret {
  readonly id: string
  readonly algorithm: 'bcrypt' | 'hmac-sha256'
  readonly hash: string
  /** Which pepper the hash was made with. */
  readonly pepperId: string
  readonly createdAt: number
  readonly expiresAt: number
}

/** An API key at rest. Times are milliseconds since the epoch. */
export interface ApiKeyRecord {
  readonly keyId: string
  /** What people call it. */
  readonly name: string
  readonly roles: readonly string[]
  readonly scopes: readonly string[]
  /** Networks the key may be used from; from anywhere when there is none. */
  readonly cidrs?: readonly string[]
  readonly createdAt: number
  readonly expiresAt: number
  readonly revokedAt: number | null
  /** Grows by one with each change; caches are bound to it. */
  readonly version: number
  /** Newest first. */
  readonly secrets: readonly ApiKeySecret[]
}

/** Where API keys are kept. Implementations share one contract; they hold hashes, never secrets. */
export interface ApiKeyStore {
  get (keyId: string): ApiKeyRecord | null | Promise<ApiKeyRecord | null>
  /** In order of creation. */
  list (): Promise<readonly ApiKeyRecord[]>
  /**
   * Writes the record if the stored one still has `expectedVersion` (null: if there is none). False when it has not.
   * Once it answers true, the record survives a crash as well as the store can.
   */
  put (record: ApiKeyRecord, expectedVersion: number | null): Promise<boolean>
  /** False when there was none. */
  delete (keyId: string): Promise<boolean>
  /** Remembers when keys were last used, apart from the records: it is no change of a key. */
  touch (used: ReadonlyMap<string, number>): Promise<void>
  /** When keys were last used, as far as that is remembered. */
  lastUsed (): Promise<ReadonlyMap<string, number>>
}

/** Whether what a store read is whole: one that was torn or edited must not be taken for a key. */
export function isApiKeyRecord (value: unknown): value is ApiKeyRecord {
  if (typeof value !== 'object' || value === null) return false
  const record = value as Partial<Record<keyof ApiKeyRecord, unknown>>
  return (
    typeof record.keyId === 'string' &&
    KEY_ID.test(record.keyId) &&
    typeof record.name === 'string' &&
    isTexts(record.roles) &&
    isTexts(record.scopes) &&
    (record.cidrs === undefined || isTexts(record.cidrs)) &&
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

function isTexts (value: unknown): value is string[] {
  return Array.isArray(value) && value.every(one => typeof one === 'string')
}

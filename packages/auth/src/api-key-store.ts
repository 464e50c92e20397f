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

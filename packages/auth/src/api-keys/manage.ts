import { randomBase62 } from './base62.js'
import type { ApiKeyFormat } from './format.js'
import type { ApiKeyHasher } from './hash.js'
import type { LastUsedTimes } from './last-used.js'
import { activeSecrets, isUsable } from './records.js'
import { checkRequest, DAY_SECONDS, type ApiKeyRequest } from './request.js'
import type { ApiKeyRecord, ApiKeySecret, ApiKeyStore } from './store.js'
import { ApiKeyConflict, ApiKeyNotFound, CredentialRequestInvalid } from '../errors.js'

/** Public information about a key: everything except its hashes. Times are milliseconds since the epoch. */
export interface ApiKeyInfo {
  readonly keyId: string
  readonly name: string
  readonly roles: readonly string[]
  readonly scopes: readonly string[]
  readonly createdAt: number
  readonly expiresAt: number
  readonly cidrs: readonly string[]
  readonly revokedAt: number | null
  /** When the key was last used, to the minute; null when no use is recorded. */
  readonly lastUsedAt: number | null
  /** Number of secrets that are valid now: two during a rotation. */
  readonly activeSecrets: number
}

/** A key with its secret, which is returned only once and never stored. */
export interface IssuedApiKey extends ApiKeyInfo {
  readonly key: string
}

/** Creates, lists, rotates and removes keys. */
export interface ApiKeyManager {
  /** Throws `MARTY_AUTH_REQUEST_INVALID` naming the field. */
  create (request: ApiKeyRequest): Promise<IssuedApiKey>
  list (): Promise<readonly ApiKeyInfo[]>
  /**
   * Gives the key a new secret. The old one stays valid for `overlapSeconds` (0 to 7 days, default 24
   * hours).
   * Throws `MARTY_AUTH_KEY_NOT_FOUND`, `MARTY_AUTH_REQUEST_INVALID`, `MARTY_AUTH_KEY_CONFLICT`.
   */
  rotate (keyId: string, options?: { readonly overlapSeconds?: number }): Promise<IssuedApiKey>
  /**
   * Revokes the key, even when another writer changes it at the same time. Revoking a revoked key does
   * nothing. Throws `MARTY_AUTH_KEY_NOT_FOUND`, and `MARTY_AUTH_KEY_CONFLICT` when other changes keep
   * interfering.
   */
  revoke (keyId: string): Promise<void>
  /**
   * Removes keys that were revoked or expired at least this long ago, and returns them. Seconds.
   * @default { olderThanSeconds: 0 }
   */
  prune (options?: { readonly olderThanSeconds?: number }): Promise<readonly ApiKeyInfo[]>
  /**
   * Returns the number of keys that were made with an unknown pepper. They are refused until that
   * pepper is configured again.
   */
  countWithUnknownPepper (): Promise<number>
}

export interface ApiKeyManagerParts {
  readonly store: ApiKeyStore
  readonly format: ApiKeyFormat
  readonly hasher: ApiKeyHasher
  readonly lastUsed: LastUsedTimes
}

/**
 * Each failed try means that another change of the key was stored. More consecutive failures than this
 * are not a race.
 */
const REVOKE_TRIES = 20

export function createApiKeyManager ({ store, format, hasher, lastUsed }: ApiKeyManagerParts): ApiKeyManager {
  async function newSecret (
    expiresAt: number,
    keyId?: string
  ): Promise<{ token: string, keyId: string, secret: ApiKeySecret }> {
    const generated = format.generate(keyId)
    const secret: ApiKeySecret = {
      id: randomBase62(8),
      ...(await hasher.hash(generated.secret)),
      createdAt: Date.now(),
      expiresAt
    }
    return { token: generated.token, keyId: generated.keyId, secret }
  }

  async function recordOf (keyId: string): Promise<ApiKeyRecord> {
    const record = await store.get(keyId)
    if (record === null) throw new ApiKeyNotFound()
    return record
  }

  return {
    async create (request) {
      checkRequest(request)
      const now = Date.now()
      const expiresAt = now + request.expiresInSeconds * 1000
      const { token, keyId, secret } = await newSecret(expiresAt)
      const record: ApiKeyRecord = {
        keyId,
        name: request.name,
        roles: [...request.roles],
        scopes: [...request.scopes ?? []],
        cidrs: [...request.cidrs ?? []],
        createdAt: now,
        expiresAt,
        revokedAt: null,
        version: 1,
        secrets: [secret]
      }
      if (!await store.put(record, null)) throw new ApiKeyConflict()
      return { ...infoOf(record, null), key: token }
    },

    async list () {
      const times = await lastUsed.all()
      return (await store.list()).map(record => infoOf(record, times.get(record.keyId) ?? null))
    },

    async rotate (keyId, { overlapSeconds = DAY_SECONDS } = {}) {
      if (!Number.isSafeInteger(overlapSeconds) || overlapSeconds < 0 || overlapSeconds > 7 * DAY_SECONDS) {
        throw new CredentialRequestInvalid('"overlapSeconds" must be an integer from 0 to 604800 (7 days)')
      }
      const record = await recordOf(keyId)
      if (!isUsable(record)) throw new CredentialRequestInvalid('The key is revoked or has expired; create a new one')
      const { token, secret } = await newSecret(record.expiresAt, keyId)
      const overlapEndsAt = Date.now() + overlapSeconds * 1000
      // Keep only the newest of the old secrets. A third one would keep a leaked first one valid.
      const old = activeSecrets(record)
        .slice(0, 1)
        .map(previous => ({ ...previous, expiresAt: Math.min(previous.expiresAt, overlapEndsAt) }))
      const next = { ...record, version: record.version + 1, secrets: [secret, ...old] }
      if (!await store.put(next, record.version)) throw new ApiKeyConflict()
      return { ...infoOf(next, (await lastUsed.all()).get(keyId) ?? null), key: token }
    },

    async revoke (keyId) {
      // A revocation must win: retry when another writer changes the key at the same time.
      for (let tries = 0; tries < REVOKE_TRIES; tries++) {
        const record = await recordOf(keyId)
        if (record.revokedAt !== null) return
        if (await store.put({ ...record, version: record.version + 1, revokedAt: Date.now() }, record.version)) return
      }
      throw new ApiKeyConflict()
    },

    async prune ({ olderThanSeconds = 0 } = {}) {
      if (!Number.isSafeInteger(olderThanSeconds) || olderThanSeconds < 0) {
        throw new CredentialRequestInvalid('"olderThanSeconds" must be an integer of 0 or more')
      }
      const before = Date.now() - olderThanSeconds * 1000
      const times = await lastUsed.all()
      const removed: ApiKeyInfo[] = []
      for (const record of await store.list()) {
        const endedAt = Math.min(record.revokedAt ?? Infinity, record.expiresAt)
        if (endedAt <= before && await store.delete(record.keyId)) {
          removed.push(infoOf(record, times.get(record.keyId) ?? null))
        }
      }
      return removed
    },

    async countWithUnknownPepper () {
      const records = await store.list()
      return records.map(activeSecrets).filter(secrets => {
        return secrets.length > 0 && !secrets.some(hasher.knowsPepperOf)
      }).length
    }
  }
}

function infoOf (record: ApiKeyRecord, lastUsedAt: number | null): ApiKeyInfo {
  const { keyId, name, roles, scopes, cidrs = [], createdAt, expiresAt, revokedAt } = record
  return {
    keyId,
    name,
    roles,
    scopes,
    cidrs,
    createdAt,
    expiresAt,
    revokedAt,
    lastUsedAt,
    activeSecrets: activeSecrets(record).length
  }
}

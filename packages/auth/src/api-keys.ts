import { CredentialInvalid, invalidCredential, type MartyError, type Principal } from '@marty/core'
import { createHmac, randomBytes } from 'node:crypto'
import { createApiKeyFormat } from './api-key-format.js'
import { createApiKeyHasher } from './api-key-hash.js'
import { resolveApiKeyOptions, type ApiKeyOptions } from './api-key-options.js'
import type { ApiKeyRecord, ApiKeySecret } from './api-key-store.js'
import { ApiKeyConflict, ApiKeyNotFound, CredentialRequestInvalid } from './errors.js'
import { createHashGate } from './hash-gate.js'
import { randomBase62 } from './base62.js'
import { createVerifiedCache } from './verified-cache.js'

export interface ApiKeyRequest {
  /** What people call it: 1 to 100 characters. */
  readonly name: string
  readonly roles: readonly string[]
  /** @default [] */
  readonly scopes?: readonly string[]
  /** Every key ends: from 1 second to 365 days. Seconds. */
  readonly expiresInSeconds: number
}

/** What may be shown of a key: everything but its hashes. Times are milliseconds since the epoch. */
export interface ApiKeyInfo {
  readonly keyId: string
  readonly name: string
  readonly roles: readonly string[]
  readonly scopes: readonly string[]
  readonly createdAt: number
  readonly expiresAt: number
  readonly revokedAt: number | null
  /** Secrets that are valid now: two during a rotation. */
  readonly activeSecrets: number
}

/** A key with its secret, which is shown this once and kept nowhere. */
export interface IssuedApiKey extends ApiKeyInfo {
  readonly key: string
}

export interface ApiKeys {
  /** Throws `MARTY_AUTH_REQUEST_INVALID` naming the field. */
  create (request: ApiKeyRequest): Promise<IssuedApiKey>
  list (): Promise<readonly ApiKeyInfo[]>
  /**
   * Gives the key a new secret; the old one stays valid for `overlapSeconds` (0 to 7 days, default 24 hours).
   * Throws `MARTY_AUTH_KEY_NOT_FOUND`, `MARTY_AUTH_REQUEST_INVALID`, `MARTY_AUTH_KEY_CONFLICT`.
   */
  rotate (keyId: string, options?: { readonly overlapSeconds?: number }): Promise<IssuedApiKey>
  /** Refuses the key from now on. Revoking twice is fine. Throws `MARTY_AUTH_KEY_NOT_FOUND`. */
  revoke (keyId: string): Promise<void>
  /** Throws `MARTY_CORE_CREDENTIAL_INVALID` whatever is wrong, and `MARTY_AUTH_BUSY` under a flood. */
  verify (token: string): Principal | Promise<Principal>
  /** Whether the key and secret a principal came with are still valid. */
  isAlive (principal: Principal): boolean | Promise<boolean>
  /** Whether a token looks like a key of this service, by its beginning alone. */
  accepts (token: string): boolean
}

const DAY = 86_400

/**
 * Makes, checks and ends API keys; needs no Fastify.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 */
export function createApiKeys (options: ApiKeyOptions): ApiKeys {
  const { store, prefix, environment, pepper, bcryptCost, hashing } = resolveApiKeyOptions(options)
  const format = createApiKeyFormat(prefix, environment)
  const hasher = createApiKeyHasher(pepper, bcryptCost)
  const gate = createHashGate(hashing)
  const cache = createVerifiedCache({ maxEntries: 10_000, ttlMs: 60_000 })
  const inFlight = new Map<string, Promise<Principal>>()
  const processKey = randomBytes(32)

  async function newSecret (expiresAt: number, keyId?: string): Promise<{ token: string, keyId: string, secret: ApiKeySecret }> {
    const generated = format.generate(keyId)
    const secret: ApiKeySecret = {
      id: randomBase62(8),
      algorithm: 'bcrypt',
      hash: await hasher.hash(generated.secret),
      pepperId: hasher.pepperId,
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

  async function replace (record: ApiKeyRecord, changes: Partial<ApiKeyRecord>): Promise<ApiKeyRecord> {
    const next = { ...record, ...changes, version: record.version + 1 }
    if (!await store.put(next, record.version)) throw new ApiKeyConflict()
    return next
  }

  /** The slow way: one bcrypt per active secret, in turn behind the gate. */
  async function check (record: ApiKeyRecord, secret: string, cacheKey: string): Promise<Principal> {
    const found = await gate.run(record.keyId, async () => {
      for (const candidate of activeSecrets(record)) {
        if (candidate.pepperId === hasher.pepperId && await hasher.matches(secret, candidate.hash)) return candidate
      }
      return null
    })
    if (found === null) throw refused()
    // Revoked or rotated away while it was hashed.
    const now = await store.get(record.keyId)
    if (now === null || !isActive(now, found.id)) throw refused()
    if (now.version === record.version) cache.add(cacheKey, { version: record.version, secretId: found.id })
    return principalOf(now, found)
  }

  const verifyRecord = (record: ApiKeyRecord | null, secret: string, token: string): Principal | Promise<Principal> => {
    if (record === null || !isUsable(record)) throw refused()
    const cacheKey = createHmac('sha256', processKey).update(token).digest('base64')
    const cached = cache.get(cacheKey, record.version)
    const known = cached === null ? undefined : activeSecrets(record).find(one => one.id === cached)
    if (known !== undefined) return principalOf(record, known)
    const running = inFlight.get(cacheKey)
    if (running !== undefined) return running
    const checking = check(record, secret, cacheKey).finally(() => { inFlight.delete(cacheKey) })
    inFlight.set(cacheKey, checking)
    return checking
  }

  return {
    accepts: token => token.startsWith(format.start),

    verify (token) {
      const parts = format.parse(token)
      if (parts === null) throw refused()
      const record = store.get(parts.keyId)
      return record instanceof Promise ? record.then(found => verifyRecord(found, parts.secret, token)) : verifyRecord(record, parts.secret, token)
    },

    isAlive (principal) {
      const [keyId = '', secretId = ''] = principal.session?.split('.') ?? []
      const record = store.get(keyId)
      return record instanceof Promise ? record.then(found => found !== null && isActive(found, secretId)) : record !== null && isActive(record, secretId)
    },

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
        createdAt: now,
        expiresAt,
        revokedAt: null,
        version: 1,
        secrets: [secret]
      }
      if (!await store.put(record, null)) throw new ApiKeyConflict()
      return { ...infoOf(record), key: token }
    },

    list: async () => (await store.list()).map(infoOf),

    async rotate (keyId, { overlapSeconds = DAY } = {}) {
      if (!Number.isSafeInteger(overlapSeconds) || overlapSeconds < 0 || overlapSeconds > 7 * DAY) {
        throw new CredentialRequestInvalid('"overlapSeconds" must be an integer from 0 to 604800 (7 days)')
      }
      const record = await recordOf(keyId)
      if (!isUsable(record)) throw new CredentialRequestInvalid('The key is revoked or has expired; create a new one')
      const { token, secret } = await newSecret(record.expiresAt, keyId)
      const ends = Date.now() + overlapSeconds * 1000
      // The newest of the old ones only: a third secret would keep a leaked first one alive.
      const old = activeSecrets(record).slice(0, 1).map(one => ({ ...one, expiresAt: Math.min(one.expiresAt, ends) }))
      const next = await replace(record, { secrets: [secret, ...old] })
      return { ...infoOf(next), key: token }
    },

    async revoke (keyId) {
      const record = await recordOf(keyId)
      if (record.revokedAt === null) await replace(record, { revokedAt: Date.now() })
    }
  }
}

function checkRequest (request: ApiKeyRequest): void {
  const { name, roles, scopes, expiresInSeconds } = request
  if (typeof name !== 'string' || name === '' || name.length > 100) throw new CredentialRequestInvalid('"name" must be a text of 1 to 100 characters')
  for (const [field, value] of [['roles', roles], ['scopes', scopes ?? []]] as const) {
    if (!Array.isArray(value) || value.length > 32 || !value.every(one => typeof one === 'string' && one !== '' && one.length <= 256)) {
      throw new CredentialRequestInvalid(`"${field}" must be at most 32 names of 1 to 256 characters`)
    }
  }
  if (!Number.isSafeInteger(expiresInSeconds) || expiresInSeconds < 1 || expiresInSeconds > 365 * DAY) {
    throw new CredentialRequestInvalid('"expiresInSeconds" is required: an integer from 1 to 31536000 (365 days)')
  }
}

function isUsable (record: ApiKeyRecord): boolean {
  return record.revokedAt === null && record.expiresAt > Date.now()
}

function activeSecrets (record: ApiKeyRecord): readonly ApiKeySecret[] {
  const now = Date.now()
  return isUsable(record) ? record.secrets.filter(secret => secret.expiresAt > now) : []
}

function isActive (record: ApiKeyRecord, secretId: string): boolean {
  return activeSecrets(record).some(secret => secret.id === secretId)
}

function principalOf (record: ApiKeyRecord, secret: ApiKeySecret): Principal {
  return Object.freeze({
    id: record.keyId,
    kind: 'key',
    roles: record.roles,
    scopes: record.scopes,
    session: `${record.keyId}.${secret.id}`,
    claims: Object.freeze({ name: record.name }),
    authenticatedBy: 'apiKey',
    expiresAt: Math.min(record.expiresAt, secret.expiresAt)
  })
}

function infoOf (record: ApiKeyRecord): ApiKeyInfo {
  const { keyId, name, roles, scopes, createdAt, expiresAt, revokedAt } = record
  return { keyId, name, roles, scopes, createdAt, expiresAt, revokedAt, activeSecrets: activeSecrets(record).length }
}

function refused (): MartyError {
  return new CredentialInvalid(invalidCredential)
}

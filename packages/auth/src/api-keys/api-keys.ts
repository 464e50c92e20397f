import { CredentialInvalid, type Principal } from '@marty/core'
import { createHmac, randomBytes } from 'node:crypto'
import { createApiKeyFormat } from './format.js'
import { createApiKeyHasher } from './hash.js'
import { resolveApiKeyOptions, type ApiKeyOptions } from './options.js'
import { readNetworks, type Networks } from './networks.js'
import type { ApiKeyRecord, ApiKeySecret } from './store.js'
import { ApiKeyConflict, ApiKeyNotFound, CredentialRequestInvalid } from '../errors.js'
import { createHashGate } from './hash-queue.js'
import type { Lockout } from '../lockout/lockout.js'
import { createUses, onceAMinute } from './last-used.js'
import { randomBase62 } from './base62.js'
import { createVerifiedCache } from './verified-key-cache.js'

export interface ApiKeyRequest {
  /** A name for people to read: 1 to 100 characters. */
  readonly name: string
  readonly roles: readonly string[]
  /** @default [] */
  readonly scopes?: readonly string[]
  /**
   * Networks from which the key may be used, such as `192.0.2.0/24` or `2001:db8::/32`.
   * @default [], any address
   */
  readonly cidrs?: readonly string[]
  /** Lifetime; every key expires. From 1 second to 365 days. Seconds. */
  readonly expiresInSeconds: number
}

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

export interface ApiKeys {
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
   * Verifies a key and returns its principal. Throws `MARTY_CORE_CREDENTIAL_INVALID` whatever is wrong,
   * `MARTY_AUTH_LOCKED` after too many wrong secrets for the key from the address, and
   * `MARTY_AUTH_BUSY` when too many keys wait to be hashed.
   */
  verify (token: string, from?: CallerPlace): Principal | Promise<Principal>
  /** Whether the key and the secret of a principal are still valid. */
  isAlive (principal: Principal): boolean | Promise<boolean>
  /**
   * Returns when the key or the secret of a principal ends, which a rotation may have brought forward;
   * null when it has ended. Milliseconds since the epoch.
   */
  endsAt (principal: Principal): number | null | Promise<number | null>
  /** Whether the key with this id is still valid. */
  isUsable (keyId: string): boolean | Promise<boolean>
  /** Whether a token starts like a key of this service. */
  accepts (token: string): boolean
  /**
   * Returns the number of keys that were made with an unknown pepper. They are refused until that
   * pepper is configured again.
   */
  withUnknownPepper (): Promise<number>
  /** Writes the pending last-used times. */
  close (): Promise<void>
}

/** Where a key is presented from. */
export interface CallerPlace {
  readonly address: string | null
  readonly requestId?: string
}

/** Services that verification uses, and callbacks for its events. */
export interface ApiKeyHooks {
  /** Limits wrong secrets, by key id and address. */
  readonly lockout?: Pick<Lockout, 'check' | 'fail' | 'succeed'>
  /** Called when a secret was verified, not when it was found in the cache. */
  readonly onVerified?: (principal: Principal, from: CallerPlace) => void
  /** Called when a secret is used that a rotation has replaced; at most once a minute for each key. */
  readonly onOldSecret?: (keyId: string) => void
  /** Called when work in the background failed. */
  readonly onProblem?: (error: unknown) => void
}

const DAY = 86_400
/**
 * Each failed try means that another change of the key was stored. More consecutive failures than this
 * are not a race.
 */
const REVOKE_TRIES = 20
const NOWHERE: CallerPlace = Object.freeze({ address: null })
const ALONE: Pick<Lockout, 'check' | 'fail' | 'succeed'> = { check () {}, fail () {}, succeed () {} }

/**
 * Creates, verifies and revokes API keys. Does not need Fastify.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 */
export function createApiKeys (options: ApiKeyOptions, hooks: ApiKeyHooks = {}): ApiKeys {
  const { store, prefix, environment, peppers, hash, bcryptCost, hashing } = resolveApiKeyOptions(options)
  const { lockout = ALONE, onVerified, onOldSecret, onProblem } = hooks
  const format = createApiKeyFormat(prefix, environment)
  const hasher = createApiKeyHasher(peppers, hash, bcryptCost)
  const gate = createHashGate(hashing)
  const cache = createVerifiedCache({ maxEntries: 10_000, ttlMs: 60_000 })
  const inFlight = new Map<string, Promise<Principal>>()
  const processKey = randomBytes(32)
  const uses = createUses(store, onProblem)
  const isOldSecretNews = onceAMinute()
  const networks = new WeakMap<ApiKeyRecord, Networks>()

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

  /**
   * Verifies a secret by hashing, once per active secret, in turn behind the gate. Keys that were
   * verified before are not affected by other callers' failures or queues.
   */
  async function check (
    record: ApiKeyRecord,
    secret: string,
    cacheKey: string,
    from: CallerPlace,
    isKnown: boolean
  ): Promise<Principal> {
    const { keyId } = record
    const { address } = from
    const isSlow = record.secrets.some(({ algorithm }) => algorithm === 'bcrypt')
    const match = async (): Promise<ApiKeySecret | null> => {
      // Check again: other attempts may have failed while this one waited for its turn.
      if (isSlow && !isKnown) await lockout.check(keyId, address)
      for (const candidate of activeSecrets(record)) if (await hasher.matches(secret, candidate)) return candidate
      // A fast hash is verified even under a lock. Otherwise another client at this address could lock
      // out the key's owner.
      if (!isSlow && !isKnown) await lockout.check(keyId, address)
      // Count the failure before the next attempt gets its turn.
      await lockout.fail(keyId, address)
      return null
    }
    if (!isKnown && isSlow) await lockout.check(keyId, address)
    const found = isSlow ? await gate.run(isKnown ? `${keyId} known` : keyId, match, isKnown) : await match()
    if (found === null) {
      cache.drop(cacheKey)
      throw new CredentialInvalid({ reason: 'secret' })
    }
    if (!isKnown) await lockout.succeed(keyId, address)
    // The secret may have been revoked or rotated while it was hashed.
    const now = await store.get(keyId)
    if (now === null || !isActive(now, found.id)) throw new CredentialInvalid({ reason: 'key has ended' })
    if (now.version === record.version) cache.add(cacheKey, { version: record.version, secretId: found.id })
    if (!hasher.isCurrent(found)) void hashAnew(now, found, secret, cacheKey)
    const principal = principalOf(now, found)
    onVerified?.(principal, from)
    return used(principal, now, found)
  }

  /**
   * Shares concurrent checks: of a key verified before, one check for all addresses; of any other, one
   * per address, because failures are counted per address.
   */
  function checkOnce (
    record: ApiKeyRecord,
    secret: string,
    cacheKey: string,
    from: CallerPlace,
    isKnown: boolean
  ): Promise<Principal> {
    const id = isKnown ? cacheKey : `${cacheKey} ${from.address}`
    const running = inFlight.get(id)
    if (running !== undefined) return running
    const checking = check(record, secret, cacheKey, from, isKnown).finally(() => {
      inFlight.delete(id)
    })
    inFlight.set(id, checking)
    return checking
  }

  /**
   * Hashes the secret again after a change of pepper or algorithm. If another writer changed the key
   * meanwhile, its change wins, and the next use tries again.
   */
  async function hashAnew (record: ApiKeyRecord, old: ApiKeySecret, secret: string, cacheKey: string): Promise<void> {
    try {
      const hashed = await gate.run(`${record.keyId} known`, async () => await hasher.hash(secret), true)
      const version = record.version + 1
      const secrets = record.secrets.map(one => one.id === old.id ? { ...one, ...hashed } : one)
      // Keep the key in the cache under its new version, so that its owner is not treated as unknown.
      if (await store.put({ ...record, version, secrets }, record.version)) {
        cache.add(cacheKey, { version, secretId: old.id })
      }
    } catch (error) {
      onProblem?.(error)
    }
  }

  function used (principal: Principal, record: ApiKeyRecord, secret: ApiKeySecret): Principal {
    uses.note(record.keyId)
    if (secret.id !== record.secrets[0]!.id && isOldSecretNews(record.keyId)) onOldSecret?.(record.keyId)
    return principal
  }

  function mayComeFrom (record: ApiKeyRecord, address: string | null): boolean {
    if (record.cidrs === undefined || record.cidrs.length === 0) return true
    let inside = networks.get(record)
    // An unreadable list allows no address.
    if (inside === undefined) networks.set(record, inside = readNetworks(record.cidrs) ?? (() => false))
    return inside(address)
  }

  const verifyRecord = (
    record: ApiKeyRecord | null,
    secret: string,
    token: string,
    from: CallerPlace
  ): Principal | Promise<Principal> => {
    const { address } = from
    if (record === null) throw new CredentialInvalid({ reason: 'key unknown' })
    if (!isUsable(record)) throw new CredentialInvalid({ reason: 'key has ended' })
    if (!mayComeFrom(record, address)) throw new CredentialInvalid({ reason: 'network' })
    const cacheKey = createHmac('sha256', processKey).update(token).digest('base64')
    const verified = cache.get(cacheKey, record.version)
    const known = verified === null ? undefined : activeSecrets(record).find(one => one.id === verified.secretId)
    if (known === undefined || !verified!.isFresh) return checkOnce(record, secret, cacheKey, from, known !== undefined)
    // Verify again in the background; no request waits for it, and the result serves the next ones.
    if (verified!.isAging) checkOnce(record, secret, cacheKey, from, true).catch(() => {})
    return used(principalOf(record, known), record, known)
  }

  function endsAt ({ session }: Principal): number | null | Promise<number | null> {
    const [keyId = '', secretId = ''] = session?.split('.') ?? []
    const record = store.get(keyId)
    return record instanceof Promise ? record.then(found => endOf(found, secretId)) : endOf(record, secretId)
  }

  return {
    accepts: token => token.startsWith(format.start),

    verify (token, from = NOWHERE) {
      const parts = format.parse(token)
      if (parts === null) throw new CredentialInvalid({ reason: 'form' })
      const record = store.get(parts.keyId)
      return record instanceof Promise
        ? record.then(found => verifyRecord(found, parts.secret, token, from))
        : verifyRecord(record, parts.secret, token, from)
    },

    isUsable (keyId) {
      const record = store.get(keyId)
      return record instanceof Promise
        ? record.then(found => found !== null && isUsable(found))
        : record !== null && isUsable(record)
    },

    isAlive (principal) {
      const end = endsAt(principal)
      return end instanceof Promise ? end.then(found => found !== null) : end !== null
    },

    endsAt,

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
      const lastUsed = await uses.all()
      return (await store.list()).map(record => infoOf(record, lastUsed.get(record.keyId) ?? null))
    },

    async rotate (keyId, { overlapSeconds = DAY } = {}) {
      if (!Number.isSafeInteger(overlapSeconds) || overlapSeconds < 0 || overlapSeconds > 7 * DAY) {
        throw new CredentialRequestInvalid('"overlapSeconds" must be an integer from 0 to 604800 (7 days)')
      }
      const record = await recordOf(keyId)
      if (!isUsable(record)) throw new CredentialRequestInvalid('The key is revoked or has expired; create a new one')
      const { token, secret } = await newSecret(record.expiresAt, keyId)
      const ends = Date.now() + overlapSeconds * 1000
      // Keep only the newest of the old secrets. A third one would keep a leaked first one valid.
      const old = activeSecrets(record).slice(0, 1).map(one => ({ ...one, expiresAt: Math.min(one.expiresAt, ends) }))
      const next = { ...record, version: record.version + 1, secrets: [secret, ...old] }
      if (!await store.put(next, record.version)) throw new ApiKeyConflict()
      return { ...infoOf(next, (await uses.all()).get(keyId) ?? null), key: token }
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
        throw new CredentialRequestInvalid('"olderThanSeconds" must be an integer from 0')
      }
      const before = Date.now() - olderThanSeconds * 1000
      const lastUsed = await uses.all()
      const gone: ApiKeyInfo[] = []
      for (const record of await store.list()) {
        if (Math.min(record.revokedAt ?? Infinity, record.expiresAt) <= before && (await store.delete(record.keyId))) {
          gone.push(infoOf(record, lastUsed.get(record.keyId) ?? null))
        }
      }
      return gone
    },

    withUnknownPepper: async () => (await store.list()).filter(record => {
      const secrets = activeSecrets(record)
      return secrets.length > 0 && !secrets.some(hasher.knowsPepperOf)
    }).length,

    close: uses.close
  }
}

function checkRequest (request: ApiKeyRequest): void {
  const { name, roles, scopes, cidrs = [], expiresInSeconds } = request
  if (typeof name !== 'string' || name === '' || name.length > 100) {
    throw new CredentialRequestInvalid('"name" must be a text of 1 to 100 characters')
  }
  for (const [field, value] of [['roles', roles], ['scopes', scopes ?? []]] as const) {
    if (
      !Array.isArray(value) ||
      value.length > 32 ||
      !value.every(one => typeof one === 'string' && one !== '' && one.length <= 256)
    ) {
      throw new CredentialRequestInvalid(`"${field}" must be at most 32 names of 1 to 256 characters`)
    }
  }
  if (!Array.isArray(cidrs) || cidrs.length > 64) {
    throw new CredentialRequestInvalid('"cidrs" must be a list of at most 64 networks')
  }
  for (const cidr of cidrs as unknown[]) {
    if (typeof cidr !== 'string' || readNetworks([cidr]) === null) {
      throw new CredentialRequestInvalid(
        `"cidrs" holds "${String(cidr).slice(0, 60)}", which is not a network such as 192.0.2.0/24 or 2001:db8::/32`
      )
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
  return endOf(record, secretId) !== null
}

/** Returns when a secret ends; null when it is not active or the key does not exist. */
function endOf (record: ApiKeyRecord | null, secretId: string): number | null {
  const secret = record === null ? undefined : activeSecrets(record).find(({ id }) => id === secretId)
  return secret === undefined ? null : Math.min(record!.expiresAt, secret.expiresAt)
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

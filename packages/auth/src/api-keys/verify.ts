import { CredentialInvalid, type Principal } from '@marty/core'
import { createHmac, randomBytes } from 'node:crypto'
import type { ApiKeyFormat } from './format.js'
import type { ApiKeyHasher } from './hash.js'
import type { HashQueue } from './hash-queue.js'
import { onceAMinute, type LastUsedTimes } from './last-used.js'
import { readNetworks, type Networks } from './networks.js'
import { activeSecrets, idsOf, isUsable, principalOf, secretEndsAt } from './records.js'
import type { ApiKeyRecord, ApiKeySecret, ApiKeyStore } from './store.js'
import { createVerifiedKeyCache } from './verified-key-cache.js'
import type { Lockout } from '../lockout/lockout.js'

/** The request that presents a key. */
export interface CallerContext {
  readonly address: string | null
  readonly requestId?: string
}

/** Services that verification uses, and callbacks for its events. */
export interface ApiKeyHooks {
  /** Limits wrong secrets, by key id and address. */
  readonly lockout?: Pick<Lockout, 'check' | 'fail' | 'succeed'>
  /** Called when a secret was verified, not when it was found in the cache. */
  readonly onVerified?: (principal: Principal, caller: CallerContext) => void
  /** Called when a secret is used that a rotation has replaced; at most once a minute for each key. */
  readonly onOldSecret?: (keyId: string) => void
  /** Called when work in the background failed. */
  readonly onProblem?: (error: unknown) => void
}

/** Verifies keys, and says how long they stay valid. */
export interface ApiKeyVerifier {
  /**
   * Verifies a key and returns its principal. Throws `MARTY_CORE_CREDENTIAL_INVALID` whatever is wrong,
   * `MARTY_AUTH_LOCKED` after too many wrong secrets for the key from the address, and
   * `MARTY_AUTH_BUSY` when too many keys wait to be hashed.
   */
  verify (token: string, caller?: CallerContext): Principal | Promise<Principal>
  /** Whether the key and the secret of a principal are still valid. */
  isAlive (principal: Principal): boolean | Promise<boolean>
  /**
   * Returns when the key or the secret of a principal ends, which a rotation may have brought forward;
   * null when it has ended. Milliseconds since the epoch.
   */
  endsAt (principal: Principal): number | null | Promise<number | null>
  /** Whether the key with this id is still valid. */
  isUsable (keyId: string): boolean | Promise<boolean>
}

export interface ApiKeyVerifierParts extends ApiKeyHooks {
  readonly store: ApiKeyStore
  readonly format: ApiKeyFormat
  readonly hasher: ApiKeyHasher
  readonly queue: HashQueue
  readonly lastUsed: LastUsedTimes
}

/** A key that is checked by hashing, because no fresh result of an earlier check is cached. */
interface Attempt {
  readonly record: ApiKeyRecord
  readonly secret: string
  readonly cacheKey: string
  readonly caller: CallerContext
  /** Whether this very key was verified before. */
  readonly isKnown: boolean
}

const UNKNOWN_CALLER: CallerContext = Object.freeze({ address: null })
const NO_LOCKOUT: Pick<Lockout, 'check' | 'fail' | 'succeed'> = { check () {}, fail () {}, succeed () {} }

export function createApiKeyVerifier (parts: ApiKeyVerifierParts): ApiKeyVerifier {
  const { store, format, hasher, queue, lastUsed, lockout = NO_LOCKOUT, onVerified, onOldSecret, onProblem } = parts
  const cache = createVerifiedKeyCache({ maxEntries: 10_000, ttlMs: 60_000 })
  const inFlight = new Map<string, Promise<Principal>>()
  /** Keys of the cache are derived with it, so that the heap holds no hash that can be compared elsewhere. */
  const processKey = randomBytes(32)
  const isOldSecretDue = onceAMinute()
  const networksOf = new WeakMap<ApiKeyRecord, Networks>()

  // Stores that have the record in memory answer synchronously, and so does every function here: a
  // request with a cached key awaits nothing.
  return {
    verify (token, caller = UNKNOWN_CALLER) {
      const parsed = format.parse(token)
      if (parsed === null) throw new CredentialInvalid({ reason: 'form' })
      const record = store.get(parsed.keyId)
      return record instanceof Promise
        ? record.then(found => verifyRecord(found, parsed.secret, token, caller))
        : verifyRecord(record, parsed.secret, token, caller)
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

    endsAt
  }

  function endsAt (principal: Principal): number | null | Promise<number | null> {
    const { keyId, secretId } = idsOf(principal)
    const record = store.get(keyId)
    return record instanceof Promise
      ? record.then(found => secretEndsAt(found, secretId))
      : secretEndsAt(record, secretId)
  }

  function verifyRecord (
    record: ApiKeyRecord | null,
    secret: string,
    token: string,
    caller: CallerContext
  ): Principal | Promise<Principal> {
    if (record === null) throw new CredentialInvalid({ reason: 'key unknown' })
    if (!isUsable(record)) throw new CredentialInvalid({ reason: 'key has ended' })
    if (!isAllowedFrom(record, caller.address)) throw new CredentialInvalid({ reason: 'network' })
    const cacheKey = createHmac('sha256', processKey).update(token).digest('base64')
    const cached = cache.get(cacheKey, record.version)
    const known = cached === null ? undefined : activeSecrets(record).find(one => one.id === cached.secretId)
    if (known === undefined || !cached!.isFresh) {
      return checkOnce({ record, secret, cacheKey, caller, isKnown: known !== undefined })
    }
    // Verify again in the background; no request waits for it, and the result serves the next ones.
    if (cached!.isAging) checkOnce({ record, secret, cacheKey, caller, isKnown: true }).catch(() => {})
    recordUse(record, known)
    return principalOf(record, known)
  }

  function isAllowedFrom (record: ApiKeyRecord, address: string | null): boolean {
    if (record.cidrs === undefined || record.cidrs.length === 0) return true
    let networks = networksOf.get(record)
    // An unreadable list allows no address.
    if (networks === undefined) networksOf.set(record, networks = readNetworks(record.cidrs) ?? (() => false))
    return networks(address)
  }

  /**
   * Shares concurrent checks: of a key verified before, one check for all addresses; of any other, one
   * per address, because failures are counted per address.
   */
  function checkOnce (attempt: Attempt): Promise<Principal> {
    const id = attempt.isKnown ? attempt.cacheKey : `${attempt.cacheKey} ${attempt.caller.address}`
    const running = inFlight.get(id)
    if (running !== undefined) return running
    const checking = check(attempt).finally(() => { inFlight.delete(id) })
    inFlight.set(id, checking)
    return checking
  }

  /**
   * Verifies a secret by hashing. Keys that were verified before are not affected by other callers'
   * failures or queues.
   */
  async function check (attempt: Attempt): Promise<Principal> {
    const { record, secret, cacheKey, caller, isKnown } = attempt
    const { keyId } = record
    const matching = await findMatching(attempt)
    if (matching === null) {
      cache.drop(cacheKey)
      throw new CredentialInvalid({ reason: 'secret' })
    }
    if (!isKnown) await lockout.succeed(keyId, caller.address)
    // The secret may have been revoked or rotated while it was hashed.
    const current = await store.get(keyId)
    if (current === null || secretEndsAt(current, matching.id) === null) {
      throw new CredentialInvalid({ reason: 'key has ended' })
    }
    if (current.version === record.version) {
      cache.add(cacheKey, { version: record.version, secretId: matching.id })
    }
    if (!hasher.isCurrent(matching)) void rehash(current, matching, secret, cacheKey)
    const principal = principalOf(current, matching)
    onVerified?.(principal, caller)
    recordUse(current, matching)
    return principal
  }

  /** Returns the active secret that the presented one matches. Slow hashes wait for their turn in the queue. */
  async function findMatching (attempt: Attempt): Promise<ApiKeySecret | null> {
    const { record: { keyId, secrets }, caller: { address }, isKnown } = attempt
    const isSlow = secrets.some(({ algorithm }) => algorithm === 'bcrypt')
    if (!isSlow) return await compareSecrets(attempt, isSlow)
    if (!isKnown) await lockout.check(keyId, address)
    const compare = async (): Promise<ApiKeySecret | null> => await compareSecrets(attempt, isSlow)
    return await queue.run(isKnown ? `${keyId} known` : keyId, compare, isKnown)
  }

  async function compareSecrets (
    { record, secret, caller: { address }, isKnown }: Attempt,
    isSlow: boolean
  ): Promise<ApiKeySecret | null> {
    const { keyId } = record
    // Check again: other attempts may have failed while this one waited for its turn.
    if (isSlow && !isKnown) await lockout.check(keyId, address)
    for (const candidate of activeSecrets(record)) {
      if (await hasher.matches(secret, candidate)) return candidate
    }
    // A fast hash is verified even under a lock. Otherwise another client at this address could lock
    // out the key's owner.
    if (!isSlow && !isKnown) await lockout.check(keyId, address)
    // Count the failure before the next attempt gets its turn.
    await lockout.fail(keyId, address)
    return null
  }

  /**
   * Hashes the secret again after a change of pepper or algorithm. If another writer changed the key
   * meanwhile, its change wins, and the next use tries again.
   */
  async function rehash (record: ApiKeyRecord, old: ApiKeySecret, secret: string, cacheKey: string): Promise<void> {
    try {
      const hashed = await queue.run(`${record.keyId} known`, async () => await hasher.hash(secret), true)
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

  function recordUse (record: ApiKeyRecord, secret: ApiKeySecret): void {
    lastUsed.record(record.keyId)
    if (secret.id !== record.secrets[0]!.id && isOldSecretDue(record.keyId)) onOldSecret?.(record.keyId)
  }
}

import type { ApiKeyStore } from './store.js'
import { AuthOptionInvalid } from '../errors.js'
import type { HashQueueLimits } from './hash-queue.js'
import { secretBytes, secretOption } from '../jwt/secret-strength.js'
import { integerOption } from '../jwt/options.js'

export interface ApiKeyOptions {
  readonly store: ApiKeyStore
  /**
   * Start of every key of this service, so that scanners find leaked ones: 2 to 16 of `a-z0-9`, a
   * letter first.
   */
  readonly prefix: string
  /**
   * The environment. Keys of one environment are not valid in another: 1 to 16 of `a-z0-9`, a letter
   * first.
   */
  readonly environment: string
  /**
   * Random, at least 32 bytes, kept apart from the store. A string counts as its UTF-8 bytes. Generate
   * one with `openssl rand -base64 48`.
   */
  readonly pepper: Buffer | string
  /**
   * Earlier peppers. When a key made with one of them is used, it is hashed again with `pepper`.
   * @default []
   */
  readonly previousPeppers?: ReadonlyArray<Buffer | string>
  /**
   * How new secrets are hashed. For 256 random bits, a slow hash gives no more protection than a fast
   * one.
   * @default 'bcrypt'
   */
  readonly hash?: 'bcrypt' | 'hmac-sha256'
  /** Cost of bcrypt, from 8 to 14. @default 10 */
  readonly bcryptCost?: number
  /** Limits of concurrent and waiting hashes. */
  readonly hashing?: HashQueueLimits
}

export interface ResolvedApiKeyOptions {
  readonly store: ApiKeyStore
  readonly prefix: string
  readonly environment: string
  readonly peppers: readonly Buffer[]
  readonly hash: 'bcrypt' | 'hmac-sha256'
  readonly bcryptCost: number
  readonly hashing: HashQueueLimits
}

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveApiKeyOptions (options: ApiKeyOptions): ResolvedApiKeyOptions {
  const { store, prefix, environment, pepper, previousPeppers = [], hash = 'bcrypt', hashing = {} } = options ?? {}
  if (
    (['get', 'put', 'list', 'delete', 'touch', 'lastUsed'] as const).some(name => typeof store?.[name] !== 'function')
  ) {
    throw new AuthOptionInvalid(
      'auth option "apiKeys.store" must be an ApiKeyStore, for example openFileApiKeyStore(file)'
    )
  }
  if (typeof prefix !== 'string' || !/^[a-z][a-z0-9]{1,15}$/.test(prefix) || prefix === 'ses') {
    throw new AuthOptionInvalid(
      'auth option "apiKeys.prefix" must be 2 to 16 of a-z 0-9, a letter first, and not "ses"'
    )
  }
  if (typeof environment !== 'string' || !/^[a-z][a-z0-9]{0,15}$/.test(environment)) {
    throw new AuthOptionInvalid('auth option "apiKeys.environment" must be 1 to 16 of a-z 0-9, a letter first')
  }
  if (!Array.isArray(previousPeppers)) {
    throw new AuthOptionInvalid('auth option "apiKeys.previousPeppers" must be a list')
  }
  // Earlier peppers are accepted even when weak, because their keys are hashed again with the current
  // one.
  const previous = previousPeppers.map((one, index) => secretBytes(`apiKeys.previousPeppers[${index}]`, one))
  const peppers = [secretOption('apiKeys.pepper', pepper), ...previous]
  if (hash !== 'bcrypt' && hash !== 'hmac-sha256') {
    throw new AuthOptionInvalid('auth option "apiKeys.hash" must be "bcrypt" or "hmac-sha256"')
  }
  for (const field of ['concurrency', 'maxWaiting', 'maxWaitingPerKey'] as const) {
    integerOption(`apiKeys.hashing.${field}`, hashing[field], field === 'concurrency' ? 1 : 0, 1024, 1)
  }
  return Object.freeze({
    store,
    prefix,
    environment,
    peppers,
    hash,
    bcryptCost: integerOption('apiKeys.bcryptCost', options.bcryptCost, 8, 14, 10),
    hashing
  })
}

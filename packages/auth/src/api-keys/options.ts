import { checkOptions, type OptionTable } from '@marty/core'
import { OLD_SECRET, SECRET } from '../jwt/secret-strength.js'
import { SCOPE } from '../option-scope.js'
import { HASHING_OPTIONS, type HashQueueLimits } from './hash-queue.js'
import type { ApiKeyStore } from './store.js'

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
  readonly hashing: Required<HashQueueLimits>
}

export interface CheckedApiKeyOptions extends Required<ApiKeyOptions> {
  readonly hashing: Required<HashQueueLimits>
}

const STORE_METHODS = ['get', 'put', 'list', 'delete', 'touch', 'lastUsed'] as const

export const API_KEY_OPTIONS: OptionTable<ApiKeyOptions, CheckedApiKeyOptions> = {
  store: {
    kind: 'custom',
    expected: 'an ApiKeyStore, such as openFileApiKeyStore(file)',
    accepts: value => STORE_METHODS.every(name => typeof (value as ApiKeyStore | null)?.[name] === 'function'),
    about: 'Where keys are stored, such as `openFileApiKeyStore(file)`.'
  },
  prefix: {
    kind: 'string',
    pattern: { test: prefix => /^[a-z][a-z0-9]{1,15}$/.test(prefix) && prefix !== 'ses' },
    expected: '2 to 16 of a-z 0-9, a letter first, and not "ses"',
    about: 'Start of every key, so that scanners find leaked ones.'
  },
  environment: {
    kind: 'string',
    pattern: /^[a-z][a-z0-9]{0,15}$/,
    expected: '1 to 16 of a-z 0-9, a letter first',
    about: 'Keys of one environment are not valid in another.'
  },
  pepper: { ...SECRET, about: 'At least 32 [random bytes](#secrets), kept apart from the store.' },
  previousPeppers: {
    kind: 'list',
    items: OLD_SECRET,
    default: [],
    about: 'Earlier peppers; their keys are hashed again with `pepper` when used.'
  },
  hash: {
    kind: 'choice',
    choices: ['bcrypt', 'hmac-sha256'],
    default: 'bcrypt',
    about: 'How new secrets are hashed.'
  },
  bcryptCost: { kind: 'integer', min: 8, max: 14, default: 10, about: 'Cost of bcrypt.' },
  hashing: {
    kind: 'object',
    options: HASHING_OPTIONS,
    default: {},
    defaultText: 'as below',
    about: 'Limits of concurrent and waiting hashes.'
  }
}

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveApiKeyOptions (options: ApiKeyOptions): ResolvedApiKeyOptions {
  const checked = checkOptions(API_KEY_OPTIONS, options, { ...SCOPE, at: 'apiKeys' })
  const { pepper, previousPeppers, ...others } = checked
  const peppers = [pepper, ...previousPeppers].map(secret => Buffer.from(secret as string))
  return Object.freeze({ ...others, peppers })
}

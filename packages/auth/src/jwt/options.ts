import { checkOptions, optionsInvalid, type OptionTable } from '@marty/core'
import { SCOPE, YEAR } from '../option-scope.js'
import { resolveKeys, type JwtKeysOptions, type SigningKeys } from './keys.js'

/** Options for both issuing and verifying access tokens. */
export interface TokenOptions {
  /** The `iss` of every token: who issues them. */
  readonly issuer: string
  /** The `aud` of every token: the service they are for. */
  readonly audience: string
  /** The keys, or a file of rotating keys: `openSigningKeys(file)`. */
  readonly keys: JwtKeysOptions | SigningKeys
  /**
   * Lifetime of a token when the caller does not give one. More than an hour is logged as a warning.
   * Seconds.
   * @default 900
   */
  readonly accessTokenTtlSeconds?: number
  /** Maximum lifetime. Tokens with a longer one are neither issued nor accepted. Seconds. @default 86400 */
  readonly maxLifetimeSeconds?: number
  /**
   * How far ahead another machine's clock may be. Applies to `iat` and `nbf`, never to `exp`. At most
   * 30. Seconds.
   * @default 30
   */
  readonly clockSkewSeconds?: number
}

export interface ResolvedTokenOptions {
  readonly issuer: string
  readonly audience: string
  readonly keyring: SigningKeys
  readonly accessTokenTtlSeconds: number
  readonly maxLifetimeSeconds: number
  readonly clockSkewSeconds: number
}

const NAME = { kind: 'string', maxLength: 256 } as const

export interface CheckedTokenOptions extends Required<Omit<TokenOptions, 'accessTokenTtlSeconds'>> {
  /** Undefined for the default, which depends on the maximum lifetime. */
  readonly accessTokenTtlSeconds: number | undefined
}

export const TOKEN_OPTIONS: OptionTable<TokenOptions, CheckedTokenOptions> = {
  issuer: { ...NAME, about: 'The `iss` of every token: who issues them.' },
  audience: { ...NAME, about: 'The `aud` of every token: the service they are for.' },
  keys: {
    kind: 'custom',
    expected: '{ signing, previous } or openSigningKeys(file)',
    accepts: value => typeof value === 'object' && value !== null,
    about: 'The keys: see [Keys](#keys) and [Rotating keys](#rotating-keys).'
  },
  accessTokenTtlSeconds: {
    kind: 'integer',
    min: 1,
    max: YEAR,
    optional: true,
    defaultText: '`900`, or `maxLifetimeSeconds` if that is shorter',
    about: 'Lifetime when `issue` is called without `ttlSeconds`; more than 3600 is logged as a warning.'
  },
  maxLifetimeSeconds: {
    kind: 'integer',
    min: 1,
    max: YEAR,
    default: 86_400,
    about: 'Tokens with a longer lifetime are neither issued nor accepted.'
  },
  clockSkewSeconds: {
    kind: 'integer',
    min: 0,
    max: 30,
    default: 30,
    about: 'How far in the future `iat` and `nbf` may be. An expiry is exact.'
  }
}

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveTokenOptions (options: TokenOptions): ResolvedTokenOptions {
  return resolveCheckedTokens(checkOptions(TOKEN_OPTIONS, options, SCOPE))
}

export function resolveCheckedTokens (options: CheckedTokenOptions): ResolvedTokenOptions {
  const { issuer, audience, keys, maxLifetimeSeconds, clockSkewSeconds } = options
  const { accessTokenTtlSeconds = Math.min(900, maxLifetimeSeconds) } = options
  if (accessTokenTtlSeconds > maxLifetimeSeconds) {
    const problem = `must be at most maxLifetimeSeconds (${maxLifetimeSeconds}), not ${accessTokenTtlSeconds}`
    throw optionsInvalid(SCOPE, [{ field: 'accessTokenTtlSeconds', problem }])
  }
  const keyring = resolveKeys(keys)
  return Object.freeze({ issuer, audience, keyring, accessTokenTtlSeconds, maxLifetimeSeconds, clockSkewSeconds })
}

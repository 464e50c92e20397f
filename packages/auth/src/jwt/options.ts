import { AuthOptionInvalid } from '../errors.js'
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

const YEAR = 365 * 86_400

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveTokenOptions (options: TokenOptions): ResolvedTokenOptions {
  if (typeof options !== 'object' || options === null) {
    throw new AuthOptionInvalid('the auth plugin needs options: { issuer, audience, keys }')
  }
  const maxLifetimeSeconds = integerOption('maxLifetimeSeconds', options.maxLifetimeSeconds, 1, YEAR, 86_400)
  return Object.freeze({
    issuer: stringOption('issuer', options.issuer),
    audience: stringOption('audience', options.audience),
    keyring: resolveKeys(options.keys),
    maxLifetimeSeconds,
    accessTokenTtlSeconds: integerOption(
      'accessTokenTtlSeconds',
      options.accessTokenTtlSeconds,
      1,
      maxLifetimeSeconds,
      Math.min(900, maxLifetimeSeconds)
    ),
    clockSkewSeconds: integerOption('clockSkewSeconds', options.clockSkewSeconds, 0, 30, 30)
  })
}

export function stringOption (field: string, value: unknown): string {
  if (typeof value !== 'string' || value === '' || value.length > 256) {
    throw new AuthOptionInvalid(`auth option "${field}" must be a string of 1 to 256 characters`)
  }
  return value
}

export function integerOption (field: string, value: unknown, least: number, most: number, standard: number): number {
  if (value === undefined) return standard
  if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most) {
    throw new AuthOptionInvalid(`auth option "${field}" must be an integer from ${least} to ${most}`)
  }
  return value as number
}

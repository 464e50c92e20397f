import { AuthOptionInvalid } from '../errors.js'
import { resolveKeys, type JwtKeysOptions, type SigningKeys } from './keys.js'

/** What issuing and verifying access tokens have in common. */
export interface TokenOptions {
  /** `iss` of every token: who issues them. */
  readonly issuer: string
  /** `aud` of every token: which service they are for. */
  readonly audience: string
  /** Keys given here, or a file of keys that rotate: `openSigningKeys(file)`. */
  readonly keys: JwtKeysOptions | SigningKeys
  /** How long a token lives when nobody says otherwise. More than an hour is logged as a warning. Seconds. @default 900 */
  readonly accessTokenTtlSeconds?: number
  /** Tokens meant to live longer are neither issued nor accepted. Seconds. @default 86400 */
  readonly maxLifetimeSeconds?: number
  /** How far ahead another machine's clock may be: bounds `iat` and `nbf`, never `exp`. At most 30. Seconds. @default 30 */
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
    issuer: textOption('issuer', options.issuer),
    audience: textOption('audience', options.audience),
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

export function textOption (field: string, value: unknown): string {
  if (typeof value !== 'string' || value === '' || value.length > 256) {
    throw new AuthOptionInvalid(`auth option "${field}" must be a text of 1 to 256 characters`)
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

import type { OptionTable } from '@marty/core'
import { SECRET } from '../../jwt/secret-strength.js'
import { YEAR } from '../../option-scope.js'

export interface RefreshOptions {
  /**
   * Random, at least 32 bytes, the same on every replica, because each successor token is derived with
   * it. A string counts as its UTF-8 bytes. Generate one with `openssl rand -base64 48`.
   */
  readonly secret: Buffer | string
  /** A refresh token that is not used for this long ends. Seconds. @default 604800 */
  readonly idleSeconds?: number
  /** After this time the user must sign in again, even if the token is in use. Seconds. @default 2592000 */
  readonly absoluteSeconds?: number
  /**
   * A client that missed its new token may present the previous one again for this long, and receives
   * the same successor. With 0, a repeated request signs the client out. At most 10. Seconds.
   * @default 10
   */
  readonly graceSeconds?: number
  /**
   * Maximum number of sign-ins with a refresh token for one subject, at most 1000. A new one beyond it
   * ends the least recently used one.
   * @default 50
   */
  readonly maxPerSubject?: number
  /**
   * Also issue a refresh token for `client_credentials`. Such a client has its API key or certificate
   * at hand and can authenticate again, so RFC 6749 section 4.4.3 advises against it.
   * @default false
   */
  readonly clientCredentials?: boolean
}

export interface ResolvedRefreshOptions {
  readonly secret: Buffer
  readonly idleSeconds: number
  readonly absoluteSeconds: number
  readonly graceSeconds: number
  readonly maxPerSubject: number
  readonly clientCredentials: boolean
}

export const MAX_PER_SUBJECT = 50

export const REFRESH_OPTIONS: OptionTable<RefreshOptions> = {
  secret: { ...SECRET, about: 'At least 32 [random bytes](#secrets), the same on every replica.' },
  idleSeconds: {
    kind: 'integer',
    min: 1,
    max: YEAR,
    default: 604_800,
    about: 'A refresh token that is not used for this long ends.'
  },
  absoluteSeconds: {
    kind: 'integer',
    min: 1,
    max: YEAR,
    default: 2_592_000,
    about: 'After this time the user must sign in again, even if the token is in use.'
  },
  graceSeconds: {
    kind: 'integer',
    min: 0,
    max: 10,
    default: 10,
    about: 'For this long, the previous token is answered with the same successor.'
  },
  maxPerSubject: {
    kind: 'integer',
    min: 1,
    max: 1_000,
    default: MAX_PER_SUBJECT,
    about: 'Maximum number of sign-ins of one subject; a new one ends the least recently used one.'
  },
  clientCredentials: {
    kind: 'boolean',
    default: false,
    about: 'Whether `client_credentials` also gets a refresh token.'
  }
}

export function resolveRefreshOptions ({ secret, ...checked }: Required<RefreshOptions>): ResolvedRefreshOptions {
  return Object.freeze({ ...checked, secret: Buffer.from(secret as string) })
}

import { closest } from '@marty/core'
import { AuthOptionInvalid } from '../../errors.js'
import { secretOption } from '../../jwt/secret-strength.js'
import { integerOption } from '../../jwt/options.js'

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

const FIELDS = ['secret', 'idleSeconds', 'absoluteSeconds', 'graceSeconds', 'maxPerSubject', 'clientCredentials']
const YEAR = 365 * 86_400
export const MAX_PER_SUBJECT = 50

/**
 * Checks the options and fills in the defaults; null when refresh tokens are off. Throws
 * `MARTY_AUTH_OPT_INVALID` naming the field.
 */
export function resolveRefreshOptions (options: RefreshOptions | false = false): ResolvedRefreshOptions | null {
  if (options === false) return null
  if (typeof options !== 'object' || options === null) {
    throw new AuthOptionInvalid('auth option "refresh" must be an object such as { secret }, or false')
  }
  for (const field of Object.keys(options)) {
    if (FIELDS.includes(field)) continue
    const near = closest(field, FIELDS)
    throw new AuthOptionInvalid(
      `auth option "refresh.${field}" is not known` +
        (near === null ? `; known are ${FIELDS.join(', ')}` : `; did you mean "${near}"?`)
    )
  }
  const { clientCredentials = false } = options
  if (typeof clientCredentials !== 'boolean') {
    throw new AuthOptionInvalid('auth option "refresh.clientCredentials" must be true or false')
  }
  return Object.freeze({
    secret: secretOption('refresh.secret', options.secret),
    idleSeconds: integerOption('refresh.idleSeconds', options.idleSeconds, 1, YEAR, 604_800),
    absoluteSeconds: integerOption('refresh.absoluteSeconds', options.absoluteSeconds, 1, YEAR, 2_592_000),
    graceSeconds: integerOption('refresh.graceSeconds', options.graceSeconds, 0, 10, 10),
    maxPerSubject: integerOption('refresh.maxPerSubject', options.maxPerSubject, 1, 1_000, MAX_PER_SUBJECT),
    clientCredentials
  })
}

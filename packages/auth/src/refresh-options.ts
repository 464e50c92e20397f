import { AuthOptionInvalid } from './errors.js'
import { integerOption } from './token-options.js'

export interface RefreshOptions {
  /** At least 32 bytes, the same on every replica: successors are derived with it. A string counts as its UTF-8 bytes. */
  readonly secret: Buffer | string
  /** A refresh token nobody uses ends after this. Seconds. @default 604800 */
  readonly idleSeconds?: number
  /** Whoever signed in has to do it again after this, however busy. Seconds. @default 2592000 */
  readonly absoluteSeconds?: number
  /**
   * A client that did not receive its new token may present the last one again for this long, and receives the same
   * successor. 0: whoever asks twice is signed out. At most 10. Seconds. @default 10
   */
  readonly graceSeconds?: number
}

export interface ResolvedRefreshOptions {
  readonly secret: Buffer
  readonly idleSeconds: number
  readonly absoluteSeconds: number
  readonly graceSeconds: number
}

const YEAR = 365 * 86_400

/** Checks the options and fills in the defaults; null for no refresh tokens. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveRefreshOptions (options: RefreshOptions | false = false): ResolvedRefreshOptions | null {
  if (options === false) return null
  if (typeof options !== 'object' || options === null) throw new AuthOptionInvalid('auth option "refresh" must be an object such as { secret }, or false')
  const { secret } = options
  if (typeof secret !== 'string' && !Buffer.isBuffer(secret)) throw new AuthOptionInvalid('auth option "refresh.secret" must be a string or a Buffer')
  const bytes = Buffer.from(secret as string)
  if (bytes.length < 32) throw new AuthOptionInvalid(`auth option "refresh.secret" has ${bytes.length} bytes and needs at least 32; make one with: openssl rand -base64 48`)
  return Object.freeze({
    secret: bytes,
    idleSeconds: integerOption('refresh.idleSeconds', options.idleSeconds, 1, YEAR, 604_800),
    absoluteSeconds: integerOption('refresh.absoluteSeconds', options.absoluteSeconds, 1, YEAR, 2_592_000),
    graceSeconds: integerOption('refresh.graceSeconds', options.graceSeconds, 0, 10, 10)
  })
}

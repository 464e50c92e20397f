import { AuthOptionInvalid } from './errors.js'
import { integerOption } from './token-options.js'

export interface LockoutOptions {
  /** The failure that locks, within the window. @default 5 */
  readonly maxFailures?: number
  /** Failures are forgotten this long after the first. Seconds. @default 900 */
  readonly windowSeconds?: number
  /** Seconds. @default 900 */
  readonly lockSeconds?: number
}

export type ResolvedLockout = Required<LockoutOptions>

/** Checks the options and fills in the defaults; null for none. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveLockout (options: LockoutOptions | false = {}): ResolvedLockout | null {
  if (options === false) return null
  if (typeof options !== 'object' || options === null) throw new AuthOptionInvalid('auth option "lockout" must be an object or false')
  return Object.freeze({
    maxFailures: integerOption('lockout.maxFailures', options.maxFailures, 1, 100, 5),
    windowSeconds: integerOption('lockout.windowSeconds', options.windowSeconds, 1, 86_400 * 30, 900),
    lockSeconds: integerOption('lockout.lockSeconds', options.lockSeconds, 1, 86_400 * 30, 900)
  })
}

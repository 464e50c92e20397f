import { closest } from '@marty/core'
import { AuthOptionInvalid } from '../errors.js'
import { integerOption } from '../jwt/options.js'

export interface LockoutOptions {
  /** The number of failures within the window that locks. From 1 to 100. @default 5 */
  readonly maxFailures?: number
  /** How long a failure counts. Seconds. @default 900 */
  readonly windowSeconds?: number
  /** How long a lock lasts. Seconds. @default 900 */
  readonly lockSeconds?: number
}

export interface LockoutLimits {
  readonly maxFailures: number
  readonly windowMs: number
  readonly lockMs: number
}

const FIELDS = ['maxFailures', 'windowSeconds', 'lockSeconds']

/**
 * Checks the option and fills in the defaults; null when the lockout is off. Throws
 * `MARTY_AUTH_OPT_INVALID` naming the field.
 */
export function resolveLockout (options: LockoutOptions | false = {}): LockoutOptions | null {
  if (options === false) return null
  if (typeof options !== 'object' || options === null) {
    throw new AuthOptionInvalid('auth option "lockout" must be an object or false')
  }
  for (const field of Object.keys(options)) {
    if (FIELDS.includes(field)) continue
    const near = closest(field, FIELDS)
    throw new AuthOptionInvalid(
      `auth option "lockout.${field}" is not known` +
        (near === null ? `; known are ${FIELDS.join(', ')}` : `; did you mean "${near}"?`)
    )
  }
  limitsOf(options)
  return options
}

export function limitsOf ({ maxFailures, windowSeconds, lockSeconds }: LockoutOptions): LockoutLimits {
  return Object.freeze({
    maxFailures: integerOption('lockout.maxFailures', maxFailures, 1, 100, 5),
    windowMs: integerOption('lockout.windowSeconds', windowSeconds, 1, 86_400, 900) * 1000,
    lockMs: integerOption('lockout.lockSeconds', lockSeconds, 1, 86_400, 900) * 1000
  })
}

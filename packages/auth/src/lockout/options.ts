import { checkOptions, type OptionTable } from '@marty/core'
import { SCOPE } from '../option-scope.js'

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

const DAY = 86_400

export const LOCKOUT_OPTIONS: OptionTable<LockoutOptions> = {
  maxFailures: { kind: 'integer', min: 1, max: 100, default: 5, about: 'Failures within the window that lock.' },
  windowSeconds: { kind: 'integer', min: 1, max: DAY, default: 900, about: 'How long a failure counts.' },
  lockSeconds: { kind: 'integer', min: 1, max: DAY, default: 900, about: 'How long a lock lasts.' }
}

/** Checks the options and fills in the defaults. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveLockoutLimits (options: LockoutOptions): LockoutLimits {
  const checked = checkOptions(LOCKOUT_OPTIONS, options, { ...SCOPE, at: 'lockout' })
  const { maxFailures, windowSeconds, lockSeconds } = checked
  return Object.freeze({ maxFailures, windowMs: windowSeconds * 1000, lockMs: lockSeconds * 1000 })
}

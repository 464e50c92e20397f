import type { OptionScope } from '@marty/core'
import { AuthOptionInvalid } from './errors.js'

/** How options of this package are refused: `auth option "lockout.maxFailures" must be …`. */
export const SCOPE: OptionScope = { subject: 'auth', refuse: message => new AuthOptionInvalid(message) }

/** A year, in seconds. */
export const YEAR: number = 365 * 86_400

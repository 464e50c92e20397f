import { optionsInvalid, type OptionScope } from '@marty/core'
import { RateLimitOptionInvalid } from './errors.js'

/** How options of this package are refused: `rate-limit option "store.deadlineMs" must be …`. */
export const SCOPE: OptionScope = { subject: 'rate-limit', refuse: message => new RateLimitOptionInvalid(message) }

export const MAX_LIMIT = 1_000_000
export const MAX_WINDOW_MS: number = 366 * 24 * 3600 * 1000

/** Creates the error for an option that contradicts another one. */
export function optionInvalid (field: string, problem: string): Error {
  return optionsInvalid(SCOPE, [{ field, problem }])
}

/** Creates the error for a value that is not an option of this package, such as an argument. */
export function invalid (what: string, problem: string): Error {
  return new RateLimitOptionInvalid(`rate-limit: ${what} ${problem}`)
}

/** Throws unless the value, which is not an option of this package, is an integer from 1 to the maximum. */
export function positive (what: string, value: unknown, max: number): void {
  if (Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= max) return
  const shown = typeof value === 'string' ? `"${value}"` : String(value)
  throw invalid(what, `must be an integer from 1 to ${max}, not ${shown}`)
}

import { defineError, type MartyErrorConstructor } from '@marty/core'

export const RateLimitOptionInvalid: MartyErrorConstructor<'MARTY_RATE_LIMIT_OPT_INVALID'> = defineError({
  name: 'RateLimitOptionInvalid',
  code: 'MARTY_RATE_LIMIT_OPT_INVALID',
  statusCode: 500,
  message: 'An option of the rate limiter is not valid'
})

/**
 * The caller has used up a limit. `data.retry_after_ms` is the exact time until the same call fits again;
 * `data['violated-policies']` names the rules that are used up.
 */
export const RateLimitExceeded: MartyErrorConstructor<'MARTY_RATE_LIMIT_EXCEEDED'> = defineError({
  name: 'RateLimitExceeded',
  code: 'MARTY_RATE_LIMIT_EXCEEDED',
  statusCode: 429,
  rpcCode: -32040,
  message: 'Too many requests',
  type: 'https://iana.org/assignments/http-problem-types#quota-exceeded'
})

/** The caller was refused more often within one window than `ban` of `config.rateLimit` allows. */
export const ClientBanned: MartyErrorConstructor<'MARTY_RATE_LIMIT_BANNED'> = defineError({
  name: 'ClientBanned',
  code: 'MARTY_RATE_LIMIT_BANNED',
  statusCode: 403,
  message: 'Too many requests after the limit was used up'
})

/** The store did not answer and the limits are configured to fail closed. */
export const StoreUnavailable: MartyErrorConstructor<'MARTY_RATE_LIMIT_STORE_UNAVAILABLE'> = defineError({
  name: 'StoreUnavailable',
  code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE',
  statusCode: 503,
  message: 'Requests cannot be counted at the moment, so they are refused',
  type: 'https://iana.org/assignments/http-problem-types#temporary-reduced-capacity'
})

/** An operator named a rule that no service has published under this prefix. */
export const RuleUnknown: MartyErrorConstructor<'MARTY_RATE_LIMIT_RULE_UNKNOWN'> = defineError({
  name: 'RuleUnknown',
  code: 'MARTY_RATE_LIMIT_RULE_UNKNOWN',
  statusCode: 404,
  message: 'There is no such rule'
})

/** An operator named a budget with members that its rule does not count by. */
export const BudgetInvalid: MartyErrorConstructor<'MARTY_RATE_LIMIT_BUDGET_INVALID'> = defineError({
  name: 'BudgetInvalid',
  code: 'MARTY_RATE_LIMIT_BUDGET_INVALID',
  statusCode: 400,
  message: 'This does not name a budget of the rule'
})

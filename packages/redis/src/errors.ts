import { MartyError, type ErrorDefinition } from '@marty/core'

/** An option is missing, unknown or invalid. The message names the field and never repeats a secret. */
export class RedisOptionInvalid extends MartyError {
  static readonly definition: ErrorDefinition<'MARTY_REDIS_OPT_INVALID'> = {
    code: 'MARTY_REDIS_OPT_INVALID',
    statusCode: 500,
    message: 'An option of the Redis connection is not valid'
  }

  declare readonly code: 'MARTY_REDIS_OPT_INVALID'
  readonly field: string

  constructor (field: string, problem: string) {
    super(RedisOptionInvalid.definition, { message: `redis option "${field}" ${problem}` })
    this.field = field
  }
}

/** Redis did not become ready in time, or the connection has been closed. */
export class RedisUnavailable extends MartyError {
  static readonly definition: ErrorDefinition<'MARTY_REDIS_UNAVAILABLE'> = {
    code: 'MARTY_REDIS_UNAVAILABLE',
    statusCode: 503,
    message: 'Redis does not answer'
  }

  declare readonly code: 'MARTY_REDIS_UNAVAILABLE'

  constructor (message: string) {
    super(RedisUnavailable.definition, { message })
  }
}

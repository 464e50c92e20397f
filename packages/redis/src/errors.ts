import { defineError, type MartyErrorConstructor } from '@marty/core'

const RedisOptionInvalidBase: MartyErrorConstructor<'MARTY_REDIS_OPT_INVALID'> = defineError({
  name: 'RedisOptionInvalid',
  code: 'MARTY_REDIS_OPT_INVALID',
  statusCode: 500,
  message: 'An option of the Redis connection is not valid'
})

/** An option is missing, unknown or invalid. The message names the field and never repeats a secret. */
export class RedisOptionInvalid extends RedisOptionInvalidBase {
  readonly field: string

  constructor (field: string, problem: string) {
    super(`redis option "${field}" ${problem}`)
    this.field = field
  }
}

/** Redis did not become ready in time, or the connection has been closed. */
export const RedisUnavailable: MartyErrorConstructor<'MARTY_REDIS_UNAVAILABLE'> = defineError({
  name: 'RedisUnavailable',
  code: 'MARTY_REDIS_UNAVAILABLE',
  statusCode: 503,
  message: 'Redis does not answer'
})

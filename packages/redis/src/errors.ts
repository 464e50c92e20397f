import { defineError, type MartyErrorConstructor } from '@marty/core'

const RedisOptionInvalidBase: MartyErrorConstructor<'MARTY_REDIS_OPT_INVALID'> = defineError({
  name: 'RedisOptionInvalid',
  code: 'MARTY_REDIS_OPT_INVALID',
  statusCode: 500,
  message: 'An option of the Redis connection is not valid'
})

/** Options are missing, unknown or invalid. The message names every problem and never repeats a secret. */
export class RedisOptionInvalid extends RedisOptionInvalidBase {
  /** The first option that is invalid; `options` for the options as a whole. */
  readonly field: string

  constructor (field: string, message: string) {
    super(message)
    this.field = field === '' ? 'options' : field
  }
}

/** Redis did not become ready in time, or the connection has been closed. */
export const RedisUnavailable: MartyErrorConstructor<'MARTY_REDIS_UNAVAILABLE'> = defineError({
  name: 'RedisUnavailable',
  code: 'MARTY_REDIS_UNAVAILABLE',
  statusCode: 503,
  message: 'Redis does not answer'
})

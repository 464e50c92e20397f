/** An option is missing, unknown or not valid. The message names the field and never repeats a secret. */
export class RedisOptionInvalid extends Error {
  readonly code = 'MARTY_REDIS_OPT_INVALID'
  readonly field: string

  constructor (field: string, problem: string) {
    super(`redis option "${field}" ${problem}`)
    this.name = 'RedisOptionInvalid'
    this.field = field
  }
}

/** Redis did not become ready in time, or the connection has been closed. */
export class RedisUnavailable extends Error {
  readonly code = 'MARTY_REDIS_UNAVAILABLE'
  readonly statusCode = 503

  constructor (message: string) {
    super(message)
    this.name = 'RedisUnavailable'
  }
}

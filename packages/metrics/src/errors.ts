import { defineError, type MartyErrorConstructor } from '@marty/core'

export const MetricsOptionInvalid: MartyErrorConstructor<'MARTY_METRICS_OPT_INVALID'> = defineError({
  name: 'MetricsOptionInvalid',
  code: 'MARTY_METRICS_OPT_INVALID',
  statusCode: 500,
  message: 'An option of the metrics plugin is not valid'
})

import { defineError, type MartyErrorConstructor } from '@marty/core'

export const HealthOptionInvalid: MartyErrorConstructor<'MARTY_HEALTH_OPT_INVALID'> = defineError({
  name: 'HealthOptionInvalid',
  code: 'MARTY_HEALTH_OPT_INVALID',
  statusCode: 500,
  message: 'An option of the health plugin is not valid'
})

/** `report()` was called with the name of a component that is not configured. */
export const ComponentUnknown: MartyErrorConstructor<'MARTY_HEALTH_COMPONENT_UNKNOWN'> = defineError({
  name: 'ComponentUnknown',
  code: 'MARTY_HEALTH_COMPONENT_UNKNOWN',
  statusCode: 500,
  message: 'There is no such component'
})

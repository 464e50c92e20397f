import { defineError, type MartyErrorConstructor } from '@marty/core'

/** Stops the start. The message has a line for each port, with the setting that chooses it. */
export const PortsBusy: MartyErrorConstructor<'MARTY_CAMERA_PORTS_BUSY'> = defineError({
  name: 'PortsBusy',
  code: 'MARTY_CAMERA_PORTS_BUSY',
  statusCode: 500,
  message: 'A port that the service needs is not free'
})

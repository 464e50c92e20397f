import { defineError, type MartyErrorConstructor } from '@marty/core'

/** MediaMTX does not respond, or responds with a server error. The cause is logged, never sent to clients. */
export const MediaMtxUnavailable: MartyErrorConstructor<'MARTY_CAMERA_MEDIAMTX_UNAVAILABLE'> = defineError({
  name: 'MediaMtxUnavailable',
  code: 'MARTY_CAMERA_MEDIAMTX_UNAVAILABLE',
  statusCode: 503,
  message: 'The media server does not respond; try again shortly'
})

/** MediaMTX has understood the request and refused it. */
export const MediaMtxRejected: MartyErrorConstructor<'MARTY_CAMERA_MEDIAMTX_REJECTED'> = defineError({
  name: 'MediaMtxRejected',
  code: 'MARTY_CAMERA_MEDIAMTX_REJECTED',
  statusCode: 502,
  message: 'The media server refused the operation'
})

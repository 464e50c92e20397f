import { defineError, type MartyErrorConstructor } from '@marty/core'

/** MediaMTX does not answer, or answers that it cannot. The cause is logged, never sent. */
export const MediaMtxUnavailable: MartyErrorConstructor<'MARTY_CAMERA_MEDIAMTX_UNAVAILABLE'> = defineError({
  code: 'MARTY_CAMERA_MEDIAMTX_UNAVAILABLE',
  statusCode: 503,
  message: 'The media server does not answer; try again shortly'
})

/** MediaMTX understood and refused. */
export const MediaMtxRejected: MartyErrorConstructor<'MARTY_CAMERA_MEDIAMTX_REJECTED'> = defineError({
  code: 'MARTY_CAMERA_MEDIAMTX_REJECTED',
  statusCode: 502,
  message: 'The media server refused the operation'
})

import { defineError, type MartyErrorConstructor } from '@marty/core'

export const CameraNotFound: MartyErrorConstructor<'MARTY_CAMERA_NOT_FOUND'> = defineError({
  name: 'CameraNotFound',
  code: 'MARTY_CAMERA_NOT_FOUND',
  statusCode: 404,
  message: 'There is no such camera; get_camera_list names those there are'
})

export const CameraDisconnected: MartyErrorConstructor<'MARTY_CAMERA_DISCONNECTED'> = defineError({
  name: 'CameraDisconnected',
  code: 'MARTY_CAMERA_DISCONNECTED',
  statusCode: 409,
  message: 'The camera is not connected'
})

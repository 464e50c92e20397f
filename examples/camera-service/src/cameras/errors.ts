import { defineError, type MartyErrorConstructor } from '@marty/core'

export const CameraNotFound: MartyErrorConstructor<'MARTY_CAMERA_NOT_FOUND'> = defineError({
  name: 'CameraNotFound',
  code: 'MARTY_CAMERA_NOT_FOUND',
  statusCode: 404,
  message: 'The camera does not exist; call get_camera_list for the existing ones'
})

export const CameraDisconnected: MartyErrorConstructor<'MARTY_CAMERA_DISCONNECTED'> = defineError({
  name: 'CameraDisconnected',
  code: 'MARTY_CAMERA_DISCONNECTED',
  statusCode: 409,
  message: 'The camera is not connected'
})

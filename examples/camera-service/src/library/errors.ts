import { defineError, type MartyErrorConstructor } from '@marty/core'

export const FileNotFound: MartyErrorConstructor<'MARTY_CAMERA_FILE_NOT_FOUND'> = defineError({
  code: 'MARTY_CAMERA_FILE_NOT_FOUND',
  statusCode: 404,
  message: 'There is no such file; list_recordings and list_snapshots name those there are'
})

export const StorageFull: MartyErrorConstructor<'MARTY_CAMERA_STORAGE_FULL'> = defineError({
  code: 'MARTY_CAMERA_STORAGE_FULL',
  statusCode: 507,
  message: 'Nothing more can be stored: there is too little free space, or the disk cannot be written'
})

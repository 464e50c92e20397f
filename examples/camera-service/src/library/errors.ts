import { defineError, type MartyErrorConstructor } from '@marty/core'

export const FileNotFound: MartyErrorConstructor<'MARTY_CAMERA_FILE_NOT_FOUND'> = defineError({
  name: 'FileNotFound',
  code: 'MARTY_CAMERA_FILE_NOT_FOUND',
  statusCode: 404,
  message: 'There is no such file; list_recordings and list_snapshots name those there are'
})

export const StorageFull: MartyErrorConstructor<'MARTY_CAMERA_STORAGE_FULL'> = defineError({
  name: 'StorageFull',
  code: 'MARTY_CAMERA_STORAGE_FULL',
  statusCode: 507,
  message: 'Nothing more can be stored: there is too little free space, or the disk cannot be written'
})

/** RFC 9110 section 15.5.13. */
export const PreconditionFailed: MartyErrorConstructor<'MARTY_CAMERA_PRECONDITION_FAILED'> = defineError({
  name: 'PreconditionFailed',
  code: 'MARTY_CAMERA_PRECONDITION_FAILED',
  statusCode: 412,
  message: 'The file is not the one the request was made for; ask for it again without the precondition'
})

/** RFC 9110 section 15.5.17. `Content-Range` contains the length of the file. */
export const RangeNotSatisfiable: MartyErrorConstructor<'MARTY_CAMERA_RANGE_NOT_SATISFIABLE'> = defineError({
  name: 'RangeNotSatisfiable',
  code: 'MARTY_CAMERA_RANGE_NOT_SATISFIABLE',
  statusCode: 416,
  message: 'The range is outside the file; Content-Range says how long it is'
})

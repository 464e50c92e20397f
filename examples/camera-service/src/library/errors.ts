import { defineError, type MartyErrorConstructor } from '@marty/core'

export const FileNotFound: MartyErrorConstructor<'MARTY_CAMERA_FILE_NOT_FOUND'> = defineError({
  name: 'FileNotFound',
  code: 'MARTY_CAMERA_FILE_NOT_FOUND',
  statusCode: 404,
  message: 'The file does not exist; call list_recordings or list_snapshots for the existing ones'
})

export const StorageFull: MartyErrorConstructor<'MARTY_CAMERA_STORAGE_FULL'> = defineError({
  name: 'StorageFull',
  code: 'MARTY_CAMERA_STORAGE_FULL',
  statusCode: 507,
  message: 'Nothing can be stored: there is too little free space, or the disk cannot be written to'
})

/** RFC 9110 section 15.5.13. */
export const PreconditionFailed: MartyErrorConstructor<'MARTY_CAMERA_PRECONDITION_FAILED'> = defineError({
  name: 'PreconditionFailed',
  code: 'MARTY_CAMERA_PRECONDITION_FAILED',
  statusCode: 412,
  message: 'The file does not match the precondition of the request; request it again without the precondition'
})

/** RFC 9110 section 15.5.17. `Content-Range` contains the length of the file. */
export const RangeNotSatisfiable: MartyErrorConstructor<'MARTY_CAMERA_RANGE_NOT_SATISFIABLE'> = defineError({
  name: 'RangeNotSatisfiable',
  code: 'MARTY_CAMERA_RANGE_NOT_SATISFIABLE',
  statusCode: 416,
  message: 'The range is outside the file; Content-Range gives its length'
})

import { defineError, type MartyErrorConstructor } from '@marty/core'

/** ffmpeg or ffprobe is missing, failed, or took too long. Its output is in the cause, for the log. */
export const FfmpegFailed: MartyErrorConstructor<'MARTY_CAMERA_FFMPEG_FAILED'> = defineError({
  name: 'FfmpegFailed',
  code: 'MARTY_CAMERA_FFMPEG_FAILED',
  statusCode: 502,
  message: 'The video could not be processed; the log of the service gives the reason'
})

export const StreamNotReady: MartyErrorConstructor<'MARTY_CAMERA_STREAM_NOT_READY'> = defineError({
  name: 'StreamNotReady',
  code: 'MARTY_CAMERA_STREAM_NOT_READY',
  statusCode: 503,
  message: 'The camera delivers no video at the moment; try again shortly'
})

export const AlreadyRecording: MartyErrorConstructor<'MARTY_CAMERA_ALREADY_RECORDING'> = defineError({
  name: 'AlreadyRecording',
  code: 'MARTY_CAMERA_ALREADY_RECORDING',
  statusCode: 409,
  message: 'The camera is already being recorded; stop that recording first'
})

export const NotRecording: MartyErrorConstructor<'MARTY_CAMERA_NOT_RECORDING'> = defineError({
  name: 'NotRecording',
  code: 'MARTY_CAMERA_NOT_RECORDING',
  statusCode: 409,
  message: 'The camera is not being recorded'
})

export const RecordingFailed: MartyErrorConstructor<'MARTY_CAMERA_RECORDING_FAILED'> = defineError({
  name: 'RecordingFailed',
  code: 'MARTY_CAMERA_RECORDING_FAILED',
  statusCode: 502,
  message: 'The recording could not be started: no video was written'
})

export { CameraDisconnected, CameraNotFound } from '../cameras/errors.js'
export { FileNotFound, StorageFull } from '../library/errors.js'
export { AlreadyRecording, FfmpegFailed, NotRecording, RecordingFailed, StreamNotReady } from '../media/errors.js'
export { MediaMtxRejected, MediaMtxUnavailable } from '../mediamtx/errors.js'

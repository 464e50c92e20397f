import type { Camera } from '../cameras/camera.js'
import type { FileRecord } from '../library/library.js'
import type { RecordingStatus } from '../media/recorder.js'
import { streamUrls, type StreamUrls } from '../mediamtx/stream-urls.js'
import type { ApiParts } from './parts.js'

/** A camera as clients see it. It contains no local file paths and no credentials. */
export interface CameraView {
  readonly device: string
  readonly status: Camera['status']
  readonly name: string
  readonly resolution: string | null
  readonly fps: number | null
  /** URLs without a token. `get_stream_url` returns URLs that can be played. */
  readonly streams: StreamUrls
  /** Whether a recording is active, including one that waits for the camera. */
  readonly recording: boolean
  readonly recording_status: RecordingStatus
  readonly detail: string
}

/** What {@link cameraView} needs to know besides the camera. */
export type ViewParts = Pick<ApiParts, 'activePaths' | 'hosts' | 'recorder'>

export function cameraView ({ activePaths, hosts, recorder }: ViewParts, camera: Camera): CameraView {
  const { id } = camera
  const tracks = activePaths()?.get(id)?.tracks2 ?? []
  const video = tracks.find(track => track.codecProps?.width !== undefined)?.codecProps
  const width = video?.width ?? camera.mode?.width
  const height = video?.height ?? camera.mode?.height
  const recording = recorder.status(id)
  return {
    device: id,
    status: camera.status,
    name: camera.name,
    resolution: width === undefined || height === undefined ? null : `${width}x${height}`,
    fps: camera.mode?.fps ?? null,
    streams: streamUrls(hosts, id, null),
    recording: recording !== 'OFF',
    recording_status: recording,
    detail: camera.detail
  }
}

/** A stored file as clients see it. */
export interface FileView {
  readonly filename: string
  readonly device: string
  readonly file_size: number
  readonly modified_time: string
  readonly download_url: string
  readonly duration?: number
  readonly format: string
  readonly resolution: string | null
}

export function fileView (file: FileRecord): FileView {
  return {
    filename: file.name,
    device: file.camera,
    file_size: file.sizeBytes,
    modified_time: new Date(file.createdAt).toISOString(),
    download_url: `/files/${file.kind}s/${encodeURIComponent(file.name)}`,
    ...(file.durationSeconds === null ? {} : { duration: file.durationSeconds }),
    format: file.kind === 'recording' ? 'fmp4' : file.name.slice(file.name.lastIndexOf('.') + 1),
    resolution: file.width === null || file.height === null ? null : `${file.width}x${file.height}`
  }
}

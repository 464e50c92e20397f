import type { CameraRegistry } from '../cameras/registry.js'
import type { FileRecord, Library } from '../library/library.js'
import type { RuntimePath } from '../mediamtx/client.js'
import type { StreamAuthority } from '../mediamtx/stream-auth.js'
import type { StreamHosts } from '../mediamtx/stream-urls.js'
import type { Recorder } from '../media/recording.js'
import type { SnapshotFormat } from '../media/snapshot.js'

/** What runs here; null for a program that is not there. */
export interface Versions {
  readonly service: string
  readonly node: string
  readonly mediamtx: string | null
  readonly ffmpeg: string | null
}

/** What the methods and routes need of the rooms behind them. */
export interface ApiParts {
  readonly cameras: CameraRegistry
  readonly library: Library
  readonly recorder: Recorder
  readonly authority: StreamAuthority
  readonly hosts: StreamHosts
  /** Time a stream URL can be used to start watching, in milliseconds. */
  readonly streamTokenMs: number
  readonly maxRecordingSeconds: number
  /** What the media server runs, by camera; null while it does not answer. */
  readonly observed: () => ReadonlyMap<string, RuntimePath> | null
  readonly versions: () => Promise<Versions>
  readonly snapshot: (camera: string, format: SnapshotFormat, quality: number) => Promise<FileRecord>
}

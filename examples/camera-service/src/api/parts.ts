import type { CameraRegistry } from '../cameras/registry.js'
import type { FileRecord, Library } from '../library/library.js'
import type { RuntimePath } from '../mediamtx/client.js'
import type { StreamAuthority } from '../mediamtx/stream-auth.js'
import type { StreamHosts } from '../mediamtx/stream-urls.js'
import type { Recorder } from '../media/recording.js'
import type { SnapshotFormat } from '../media/snapshot.js'

/** Versions of the service and of the programs it runs; null for a program that is not available. */
export interface Versions {
  readonly service: string
  readonly node: string
  readonly mediamtx: string | null
  readonly ffmpeg: string | null
}

/** What the RPC methods and routes need from the other modules. */
export interface ApiParts {
  readonly cameras: CameraRegistry
  readonly library: Library
  readonly recorder: Recorder
  readonly authority: StreamAuthority
  readonly hosts: StreamHosts
  /** How long a stream URL can be used to start a session, in milliseconds. */
  readonly streamTokenMs: number
  readonly maxRecordingSeconds: number
  /** Active paths of the media server by camera id; null while it does not respond. */
  readonly observed: () => ReadonlyMap<string, RuntimePath> | null
  readonly versions: () => Promise<Versions>
  readonly snapshot: (camera: string, format: SnapshotFormat, quality: number) => Promise<FileRecord>
}

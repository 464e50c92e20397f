import type { CameraRegistry } from '../cameras/registry.js'
import type { FileRecord, Library } from '../library/library.js'
import type { ActivePaths } from '../mediamtx/reconciler.js'
import type { StreamAuthority } from '../mediamtx/stream-auth.js'
import type { StreamHosts } from '../mediamtx/stream-urls.js'
import type { Recorder } from '../media/recorder.js'
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
  readonly activePaths: () => ActivePaths
  readonly versions: () => Promise<Versions>
  readonly snapshot: (camera: string, format: SnapshotFormat, quality: number) => Promise<FileRecord>
}

import type { V4l2Camera } from './discovery/v4l2/camera.js'

/** Picture size in pixels, and frames per second. */
export interface VideoMode { readonly width: number, readonly height: number, readonly fps: number }

/** The source of a camera's video. */
export type CameraSource =
  | { readonly kind: 'test-pattern' }
  | { readonly kind: 'v4l2', readonly device: V4l2Camera }
  /** MediaMTX pulls this URL itself. It may contain credentials and is never shown. */
  | { readonly kind: 'rtsp', readonly url: string }

/** A camera as a discovery reports it. */
export interface FoundCamera {
  /** Identity that stays the same after restarts, replugging and renumbering. */
  readonly stableKey: string
  readonly name: string
  readonly source: CameraSource
  readonly mode: VideoMode | null
}

export type CameraStatus = 'CONNECTED' | 'DISCONNECTED' | 'ERROR'

/** A camera that the service knows, whether or not it is connected now. */
export interface Camera extends FoundCamera {
  readonly id: string
  readonly status: CameraStatus
  /** A readable reason why the status is not CONNECTED; empty when it is. */
  readonly detail: string
  /** When the status last changed, in milliseconds since the epoch. */
  readonly since: number
}

/** One way to find cameras. */
export interface Discovery {
  /** The kind of source that all its cameras have. */
  readonly name: CameraSource['kind']
  /**
   * Returns all cameras that are connected now: a missing one has vanished. `known` are the cameras that any discovery
   * has found so far.
   */
  find (known: readonly Camera[]): Promise<readonly FoundCamera[]>
  /** Calls `onChange` when the result of `find` may have changed. Returns a function that stops watching. */
  watch? (onChange: () => void): () => void
}

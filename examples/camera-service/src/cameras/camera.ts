import type { V4l2Camera } from './discovery/v4l2/v4l2.js'

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

/** One way to find cameras. `find` returns all cameras that are connected now: a missing one has vanished. */
export interface Discovery {
  readonly name: string
  find (): Promise<readonly FoundCamera[]>
  /** Calls `onChange` when the result of `find` may have changed. Returns a function that stops watching. */
  watch? (onChange: () => void): () => void
}

import type { V4l2Camera } from './discovery/v4l2/v4l2.js'

/** How many pixels, how often. */
export interface VideoMode { readonly width: number, readonly height: number, readonly fps: number }

/** Where a camera's picture comes from. */
export type CameraSource =
  | { readonly kind: 'test-pattern' }
  | { readonly kind: 'v4l2', readonly device: V4l2Camera }
  /** MediaMTX pulls this URL itself. It may carry credentials and is never shown. */
  | { readonly kind: 'rtsp', readonly url: string }

/** A camera as a discovery reports it. */
export interface FoundCamera {
  /** Identity that survives restarts, replugging and renumbering. */
  readonly stableKey: string
  readonly name: string
  readonly source: CameraSource
  readonly mode: VideoMode | null
}

export type CameraStatus = 'CONNECTED' | 'DISCONNECTED' | 'ERROR'

/** A camera the service knows, whether it is there at the moment or not. */
export interface Camera extends FoundCamera {
  readonly id: string
  readonly status: CameraStatus
  /** Why the status is not CONNECTED, in words for a person; empty when it is. */
  readonly detail: string
  /** When the status last changed, in milliseconds since the epoch. */
  readonly since: number
}

/** One way to find cameras. It reports all that are there now; what is missing has vanished. */
export interface Discovery {
  readonly name: string
  find (): Promise<readonly FoundCamera[]>
  /** Calls back when `find` may answer differently. Returns how to stop. */
  watch? (onChange: () => void): () => void
}

/** A camera of this machine: one Video4Linux node that captures video. */
export interface V4l2Camera {
  /**
   * Stays the same when the camera is unplugged, plugged in again or renumbered. It is built from the USB serial number
   * if there is a usable one (then it also stays the same at another port), else from the bus path and the card's name.
   * Unique within one result.
   */
  readonly stableKey: string
  /** Device file, for example `/dev/video0`. It may change whenever the camera is plugged in. */
  readonly node: string
  /** Readable name of the card, from the driver. */
  readonly name: string
  readonly driver: string
  /** Where the camera is attached, as the kernel reports it, for example `usb-0000:00:14.0-2`. */
  readonly bus: string
  readonly formats: readonly V4l2Format[]
}

/** One pixel format and the sizes that the camera delivers in it. */
export interface V4l2Format {
  /** Four-character code without padding, for example `YUYV`, `MJPG`, `H264`. */
  readonly pixelFormat: string
  /** Empty when the driver does not report sizes. */
  readonly sizes: readonly V4l2Size[]
}

export interface V4l2Size {
  readonly width: number
  readonly height: number
  /** Frames per second, fastest first. Empty when the driver does not report rates. */
  readonly fps: readonly number[]
}

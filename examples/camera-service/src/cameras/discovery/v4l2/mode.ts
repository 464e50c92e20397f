import type { V4l2Camera } from './camera.js'

/** One pixel format, size and frame rate that a camera can deliver. */
export interface V4l2Mode {
  readonly pixelFormat: string
  readonly width: number
  readonly height: number
  readonly fps: number
}

export interface V4l2ModeOptions {
  /** Maximum width, in pixels. @default 1280 */
  readonly width?: number
  /** Maximum height, in pixels. @default 720 */
  readonly height?: number
  /** Preferred number of frames per second. @default 30 */
  readonly fps?: number
}

/**
 * Four-character codes and their names for ffmpeg's `-input_format`. Those that are cheapest to encode come first: raw
 * YUV, then compressed formats (they must be decoded first), then RGB (twice the bytes), grey and raw sensor patterns.
 */
const FFMPEG_NAMES: ReadonlyMap<string, string> = new Map([
  ['NV12', 'nv12'],
  ['YU12', 'yuv420p'],
  ['YUYV', 'yuyv422'],
  ['UYVY', 'uyvy422'],
  ['422P', 'yuv422p'],
  ['MJPG', 'mjpeg'],
  ['JPEG', 'mjpeg'],
  ['H264', 'h264'],
  ['BGR3', 'bgr24'],
  ['RGB3', 'rgb24'],
  ['GREY', 'gray'],
  ['BA81', 'bayer_bggr8'],
  ['GBRG', 'bayer_gbrg8'],
  ['GRBG', 'bayer_grbg8'],
  ['RGGB', 'bayer_rggb8']
])
/** Pixel formats, those that are cheapest to read first. */
const CHEAPEST_FIRST = [...FFMPEG_NAMES.keys()]

/**
 * Chooses the mode in which to read a camera, by these criteria in this order:
 * 1. a smooth picture: at least 15 frames/s, or the requested rate if it is lower;
 * 2. a picture within the requested size;
 * 3. the largest picture that fits, or else the smallest that does not;
 * 4. the rate closest to the requested one;
 * 5. the pixel format that is cheapest to read.
 *
 * The result always contains the rate, because some drivers start with an unsuitable one (such as 5 frames/s).
 * @throws RangeError when the camera has no format that ffmpeg can read; discoverV4l2 never returns such a camera
 */
export function chooseMode (
  camera: Pick<V4l2Camera, 'node' | 'formats'>,
  { width = 1280, height = 720, fps = 30 }: V4l2ModeOptions = {}
): V4l2Mode {
  const smooth = Math.min(15, fps)
  const rank = (mode: V4l2Mode): number[] => {
    const fits = mode.width <= width && mode.height <= height
    const area = mode.width * mode.height
    return [
      mode.fps >= smooth ? 0 : 1,
      fits ? 0 : 1,
      fits ? -area : area,
      Math.abs(mode.fps - fps),
      CHEAPEST_FIRST.indexOf(mode.pixelFormat)
    ]
  }
  const [best] = [...modes(camera, { width: Math.min(width, 640), height: Math.min(height, 480), fps })]
    .map(mode => ({ mode, rank: rank(mode) }))
    .sort((a, b) => compare(a.rank, b.rank))
  if (best === undefined) throw new RangeError(`${camera.node} has no pixel format that ffmpeg can read`)
  return best.mode
}

/** The arguments for ffmpeg to open the camera in this mode, up to and including `-i`. */
export function ffmpegInputArgs (camera: Pick<V4l2Camera, 'node'>, mode: V4l2Mode): string[] {
  const format = FFMPEG_NAMES.get(mode.pixelFormat)
  if (format === undefined) throw new RangeError(`ffmpeg cannot read the pixel format ${mode.pixelFormat}`)
  return [
    '-f',
    'v4l2',
    '-input_format',
    format,
    '-framerate',
    String(mode.fps),
    '-video_size',
    `${mode.width}x${mode.height}`,
    '-i',
    camera.node
  ]
}

/** Whether ffmpeg's v4l2 input supports this four-character code. */
export function isReadable (pixelFormat: string): boolean {
  return FFMPEG_NAMES.has(pixelFormat)
}

/** Every mode of every readable format. If a driver lists none, we request the fallback and the driver adjusts it. */
function * modes (camera: Pick<V4l2Camera, 'formats'>, fallback: Omit<V4l2Mode, 'pixelFormat'>): Generator<V4l2Mode> {
  for (const { pixelFormat, sizes } of camera.formats) {
    if (!isReadable(pixelFormat)) continue
    for (const { width, height, fps } of sizes.length > 0 ? sizes : [{ ...fallback, fps: [] }]) {
      for (const rate of fps.length > 0 ? fps : [fallback.fps]) yield { pixelFormat, width, height, fps: rate }
    }
  }
}

function compare (a: readonly number[], b: readonly number[]): number {
  for (const [at, value] of a.entries()) {
    const difference = value - (b[at] as number)
    if (difference !== 0) return difference
  }
  return 0
}

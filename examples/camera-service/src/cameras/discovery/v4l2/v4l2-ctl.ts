import { execFile } from 'node:child_process'
import type { V4l2Format, V4l2Size } from './camera.js'

/** The largest known listing (of the kernel's test driver) has 165 kB. */
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024

export interface V4l2CtlResult {
  /** What the program printed, also when it exited with an error. */
  readonly output: string
  /**
   * Set when the program itself failed: it is not installed, was too slow, or printed too much. Not set when it could
   * not open the node.
   */
  readonly failure: string | undefined
}

/** Runs v4l2-ctl with one query for one node. Never rejects. */
export function queryNode (
  program: string,
  node: string,
  query: '--info' | '--list-formats-ext',
  timeoutMs: number
): Promise<V4l2CtlResult> {
  // An AbortSignal instead of execFile's timeout: the callback runs immediately, even if a hanging driver prevents the
  // killed process from exiting.
  const signal = AbortSignal.timeout(timeoutMs)
  return new Promise(resolve => {
    execFile(
      program,
      ['-d', node, query],
      { maxBuffer: MAX_OUTPUT_BYTES, killSignal: 'SIGKILL', signal },
      (error, output) => {
        resolve({ output, failure: error === null ? undefined : describe(error, program, query, timeoutMs) })
      }
    )
  })
}

function describe (
  error: Error & { code?: string | number | null },
  program: string,
  query: string,
  timeoutMs: number
): string | undefined {
  if (error.name === 'AbortError') return `${program} ${query} took longer than ${timeoutMs} ms`
  if (error.code === 'ENOENT') return `${program} is not installed; on Debian and Ubuntu it is in the package v4l-utils`
  if (error.code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') {
    return `${program} ${query} printed more than ${MAX_OUTPUT_BYTES} bytes`
  }
  if (typeof error.code === 'string') return `${program} cannot be started (${error.code})`
  return undefined
}

export interface V4l2Card {
  readonly driver: string
  readonly name: string
  readonly bus: string
  /** Capabilities of this node, not of its whole device. */
  readonly capabilities: number
}

/** Parses the output of `--info`; undefined when it contains no capabilities. */
export function parseInfo (text: string): V4l2Card | undefined {
  // A second section, about the media controller, repeats these field names, sometimes with values of another device.
  const section = text.split(/^Media Driver Info:/m)[0] as string
  const field = (name: string): string | undefined =>
    new RegExp(`^\\s*${name}[ \\t]*:[ \\t]*(.*?)\\s*$`, 'm').exec(section)?.[1]
  // "Capabilities" covers all nodes of the device. It equals the node's own only if the driver has a single node.
  const capabilities = Number(field('Device Caps') ?? field('Capabilities') ?? NaN)
  if (Number.isNaN(capabilities)) return undefined
  const driver = field('Driver name') ?? ''
  return { driver, name: field('Card type') || driver, bus: field('Bus info') ?? '', capabilities }
}

// linux/videodev2.h
const videoCapture = 0x00000001
const videoCaptureMultiplanar = 0x00001000
const memoryToMemory = 0x00008000
const memoryToMemoryMultiplanar = 0x00004000
const touch = 0x10000000

/**
 * Whether a node with these device capabilities is a camera. Touch pads also report video capture, and codecs only
 * convert video.
 */
export function isCapture (capabilities: number): boolean {
  return (capabilities & (videoCapture | videoCaptureMultiplanar)) !== 0 &&
    (capabilities & (memoryToMemory | memoryToMemoryMultiplanar | touch)) === 0
}

/** Whether the node delivers pictures only as separate planes, which ffmpeg's v4l2 input does not support. */
export function isMultiplanarOnly (capabilities: number): boolean {
  return (capabilities & videoCapture) === 0
}

/** Parses the output of `--list-formats-ext`. */
export function parseFormats (text: string): V4l2Format[] {
  const formats: Array<{ pixelFormat: string, sizes: Array<{ width: number, height: number, fps: number[] }> }> = []
  for (const line of text.split('\n')) {
    const code = /^\s*\[\d+\]: '(.{4})(-BE)?'/.exec(line)
    if (code !== null) {
      formats.push({ pixelFormat: (code[1] as string).trimEnd() + (code[2] ?? ''), sizes: [] })
      continue
    }
    const sizes = formats.at(-1)?.sizes
    const size = /^\s*Size: (\w+) (\d+)x(\d+)(?: - (\d+)x(\d+)(?: with step (\d+)\/(\d+))?)?/.exec(line)
    if (size !== null) {
      const [width = 0, height = 0, maxWidth = 0, maxHeight = 0, stepX = 1, stepY = 1] = size
        .slice(2)
        .map(digits => (digits === undefined ? undefined : Number(digits)))
      if (size[1] === 'Discrete') sizes?.push({ width, height, fps: [] })
      else sizes?.push(...sizesWithin({ width, height, maxWidth, maxHeight, stepX, stepY }))
      continue
    }
    const rates = /^\s*Interval: \w+ .*\(([\d.]+)(?:-([\d.]+))? fps\)/.exec(line)
    if (rates !== null) {
      sizes?.at(-1)?.fps.push(...ratesWithin(Number(rates[1]), rates[2] === undefined ? undefined : Number(rates[2])))
    }
  }
  for (const { sizes } of formats) {
    for (const size of sizes) size.fps = [...new Set(size.fps)].sort((a, b) => b - a)
  }
  return formats
}

/** A device with a scaler offers any size within bounds. We list the bounds and these common sizes. */
const commonSizes = [[320, 240], [640, 360], [640, 480], [800, 600], [1280, 720], [1920, 1080], [3840, 2160]] as const
const commonRates = [60, 50, 30, 25, 20, 15, 10, 5]

function sizesWithin (range: {
  width: number
  height: number
  maxWidth: number
  maxHeight: number
  stepX: number
  stepY: number
}): Array<V4l2Size & { fps: number[] }> {
  const onStep = (value: number, from: number, step: number): boolean => step === 0 || (value - from) % step === 0
  const inner = commonSizes.filter(
    ([width, height]) =>
      width > range.width &&
      width < range.maxWidth &&
      onStep(width, range.width, range.stepX) &&
      height > range.height &&
      height < range.maxHeight &&
      onStep(height, range.height, range.stepY)
  )
  const all = [[range.width, range.height] as const, ...inner, [range.maxWidth, range.maxHeight] as const]
  return all.map(([width, height]) => ({ width, height, fps: [] }))
}

function ratesWithin (low: number, high: number | undefined): number[] {
  if (high === undefined) return [low]
  return [high, ...commonRates.filter(rate => rate > low && rate < high), low]
}

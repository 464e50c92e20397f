import type { FastifyBaseLogger } from 'fastify'
import { startChild, type Child } from '../process/child.js'
import { redactUrls } from '../process/redact-urls.js'
import type { Camera } from './camera.js'
import { encodeArgs } from './encode-args.js'

export interface PublisherOptions {
  readonly camera: Camera
  readonly ffmpeg: string
  /** Returns the URL to publish to, with a newly created publish key. */
  readonly target: () => string
  /** Whether the media server is ready to receive the stream. */
  readonly isReady: () => boolean
  readonly report: (status: 'CONNECTED' | 'ERROR', detail: string) => void
  /** Called when the stream has started. The key in `target` is no longer needed. */
  readonly onStreaming: () => void
  readonly log: FastifyBaseLogger
}

const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15_000]
/** How often to check whether the media server is ready. */
const READY_CHECK_MS = 200
/** A publisher that ran at least this long was healthy: when it ends, the backoff starts from the beginning. */
const HEALTHY_MS = 10_000
/** A stream without a new byte for this long is stuck; its ffmpeg is restarted. */
const STALL_MS = 10_000
/** Consecutive failures after which the camera is reported as ERROR. */
const FAILURES_TO_ERROR = 3
/** How many lines of ffmpeg's output are kept to explain a failure. */
const OUTPUT_LINES = 5

/** Keeps one ffmpeg running that sends one local camera to the media server, as long as the camera is connected. */
export class Publisher {
  readonly #options: PublisherOptions
  readonly #log: FastifyBaseLogger
  #child: Child | null = null
  #stopped = false
  #failures = 0
  #lastBytes = -1
  #lastGrowth = performance.now()
  /** The last lines of ffmpeg's output. */
  #output: string[] = []
  #ended: Promise<void> = Promise.resolve()
  /** Ends the current pause. */
  #wake: () => void = () => {}

  constructor (options: PublisherOptions) {
    this.#options = options
    this.#log = options.log.child({ camera: options.camera.id })
  }

  start (): void {
    this.#ended = this.#run()
  }

  /** Reports how many bytes the media server has received so far; null when it receives no stream. */
  observe (inboundBytes: number | null): void {
    const { report, onStreaming } = this.#options
    const now = performance.now()
    if (inboundBytes !== null && inboundBytes !== this.#lastBytes) {
      this.#lastGrowth = now
      this.#lastBytes = inboundBytes
      if (this.#child !== null) this.#failures = 0
      onStreaming()
      report('CONNECTED', '')
      return
    }
    if (now - this.#lastGrowth <= STALL_MS) return
    report('ERROR', this.#failures >= FAILURES_TO_ERROR ? explain(this.#output) : 'the camera delivers no picture')
    if (this.#child === null || inboundBytes === null) return
    this.#log.warn('the stream has stopped; restarting ffmpeg')
    this.#lastGrowth = now
    void this.#child.stop(1000)
  }

  /** Ends the current ffmpeg so that a new one connects. Call it when the media server has restarted. */
  restart (): void {
    this.#failures = 0
    void this.#child?.stop(500)
    this.#wake()
  }

  async stop (): Promise<void> {
    this.#stopped = true
    this.#wake()
    await this.#child?.stop()
    await this.#ended
  }

  async #run (): Promise<void> {
    while (!this.#stopped) {
      if (!this.#options.isReady()) {
        await this.#pause(READY_CHECK_MS)
        continue
      }
      await this.#publish()
      if (this.#stopped) return
      if (this.#failures >= FAILURES_TO_ERROR) this.#options.report('ERROR', explain(this.#output))
      if (this.#failures > 0) await this.#pause(BACKOFF_MS[Math.min(this.#failures, BACKOFF_MS.length) - 1]!)
    }
  }

  /** Runs ffmpeg once, until it ends. */
  async #publish (): Promise<void> {
    const { camera, ffmpeg, target } = this.#options
    this.#output = []
    this.#lastGrowth = performance.now()
    const startedAt = performance.now()
    try {
      this.#child = await startChild({
        command: ffmpeg,
        args: encodeArgs(camera, target()),
        onLine: line => { this.#output = [...this.#output, redactUrls(line)].slice(-OUTPUT_LINES) }
      })
    } catch (error) {
      this.#failures++
      this.#log.error({ err: error }, 'ffmpeg could not be started')
      const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
      this.#output = [isMissing ? `${ffmpeg} is not installed` : 'ffmpeg could not be started']
      return
    }
    await this.#watch(this.#child, startedAt)
  }

  async #watch (child: Child, startedAt: number): Promise<void> {
    this.#log.debug({ pid: child.pid }, 'ffmpeg publishes the camera')
    if (this.#stopped) await child.stop()
    const { code, signal } = await child.ended
    this.#child = null
    if (this.#stopped) return
    // ffmpeg's exit code does not show whether the camera was lost, so every exit counts as a failure. After a healthy
    // run, counting starts again at one.
    this.#failures = performance.now() - startedAt > HEALTHY_MS ? 1 : this.#failures + 1
    this.#log.warn({ code, signal, output: this.#output }, 'ffmpeg has ended; restarting it')
  }

  #pause (ms: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

/** Derives from ffmpeg's output a reason that the camera's owner can act on, without file names or options. */
function explain (output: readonly string[]): string {
  const text = output.join(' ')
  if (/No such (file or )?device/i.test(text)) return 'the device was unplugged'
  if (/Device or resource busy/i.test(text)) return 'another program uses the camera'
  if (/Permission denied/i.test(text)) return 'the service may not open the camera: add its user to the group "video"'
  if (/is not installed/.test(text)) return 'ffmpeg is not installed'
  return 'ffmpeg cannot read the camera; see the log of the service'
}

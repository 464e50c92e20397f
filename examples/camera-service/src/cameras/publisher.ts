import type { FastifyBaseLogger } from 'fastify'
import { startChild, type Child } from '../process/child.js'
import { redactUrls } from '../process/redact-urls.js'
import type { Camera } from './camera.js'
import { encodeArgs } from './encode-args.js'

const BACKOFF_MS = [500, 1000, 2000, 4000, 8000, 15_000]
/** A publisher that ran at least this long was healthy: when it ends, the backoff starts from the beginning. */
const HEALTHY_MS = 10_000
/** A stream without a new byte for this long is stuck; its ffmpeg is restarted. */
const STALL_MS = 10_000
/** Consecutive failures after which the camera is reported as ERROR. */
const FAILURES_TO_ERROR = 3

export interface PublisherOptions {
  readonly camera: Camera
  readonly ffmpeg: string
  /** Returns the URL to publish to, with a newly created publish key. */
  readonly target: () => string
  /** Whether the media server is ready to receive the stream. */
  readonly ready: () => boolean
  readonly report: (status: 'CONNECTED' | 'ERROR', detail: string) => void
  /** Called when the stream has started. The key in `target` is no longer needed. */
  readonly onFlowing: () => void
  readonly log: FastifyBaseLogger
}

/** Keeps one ffmpeg running that sends one local camera to the media server, as long as the camera is connected. */
export interface Publisher {
  /** Reports how many bytes the media server has received so far; null when it receives no stream. */
  observe (inboundBytes: number | null): void
  /** Ends the current ffmpeg so that a new one connects. Call it when the media server has restarted. */
  restart (): void
  stop (): Promise<void>
}

export function startPublisher (options: PublisherOptions): Publisher {
  const { camera, ffmpeg, report } = options
  const log = options.log.child({ camera: camera.id })
  let child: Child | null = null
  let stopped = false
  let failures = 0
  let lastBytes = -1
  let lastGrowth = performance.now()
  let lastWords: string[] = []
  let wake: () => void = () => {}

  const pause = (ms: number): Promise<void> => new Promise(resolve => {
    const timer = setTimeout(resolve, ms)
    wake = () => {
      clearTimeout(timer)
      resolve()
    }
  })

  async function once (): Promise<void> {
    lastWords = []
    lastGrowth = performance.now()
    const startedAt = performance.now()
    child = await startChild({
      command: ffmpeg,
      args: encodeArgs(camera, options.target()),
      onLine: line => { lastWords = [...lastWords.slice(-4), redactUrls(line)] }
    })
    log.debug({ pid: child.pid }, 'ffmpeg publishes')
    if (stopped) await child.stop()
    const { code, signal } = await child.ended
    child = null
    if (stopped) return
    // ffmpeg's exit code does not show whether the camera was lost, so every exit counts as a failure. After a healthy
    // run, counting starts again at one.
    failures = performance.now() - startedAt > HEALTHY_MS ? 1 : failures + 1
    log.warn({ code, signal, words: lastWords }, 'ffmpeg has ended; starting it again')
  }

  async function run (): Promise<void> {
    for (;;) {
      if (stopped) return
      if (!options.ready()) {
        await pause(200)
        continue
      }
      try {
        await once()
      } catch (error) {
        failures++
        log.error({ err: error }, 'ffmpeg could not be started')
        lastWords = [
          (error as NodeJS.ErrnoException).code === 'ENOENT'
            ? `${ffmpeg} is not installed`
            : 'ffmpeg could not be started'
        ]
      }
      if (stopped) return
      if (failures >= FAILURES_TO_ERROR) report('ERROR', plainWords(lastWords))
      if (failures > 0) await pause(BACKOFF_MS[Math.min(failures - 1, BACKOFF_MS.length - 1)]!)
    }
  }

  const ended = run()

  return {
    observe (inboundBytes) {
      const now = performance.now()
      if (inboundBytes !== null && inboundBytes !== lastBytes) {
        lastGrowth = now
        lastBytes = inboundBytes
        if (failures > 0 && child !== null) failures = 0
        options.onFlowing()
        report('CONNECTED', '')
        return
      }
      if (now - lastGrowth <= STALL_MS) return
      report('ERROR', failures >= FAILURES_TO_ERROR ? plainWords(lastWords) : 'no picture arrives')
      if (child === null || inboundBytes === null) return
      log.warn('the stream stands still; starting ffmpeg again')
      lastGrowth = now
      void child.stop(1000)
    },
    restart () {
      failures = 0
      void child?.stop(500)
      wake()
    },
    async stop () {
      stopped = true
      wake()
      await child?.stop()
      await ended
    }
  }
}

/** Derives from ffmpeg's output a reason that the camera's owner can act on, without file names or options. */
function plainWords (words: readonly string[]): string {
  const text = words.join(' ')
  if (/No such (file or )?device/i.test(text)) return 'the device is gone'
  if (/Device or resource busy/i.test(text)) return 'another program uses the camera'
  if (/Permission denied/i.test(text)) return 'the service may not open the camera; add its user to the group "video"'
  if (/is not installed/.test(text)) return 'ffmpeg is not installed'
  return 'ffmpeg cannot read the camera; the log says why'
}

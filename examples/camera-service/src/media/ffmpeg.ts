import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { childEnvironment } from '../process/environment.js'
import { FfmpegFailed } from './errors.js'
import { redactUrls } from '../process/redact-urls.js'

const run = promisify(execFile)

/** The programs ffmpeg and ffprobe, and whether they can be run. */
export interface Ffmpeg {
  readonly ffmpeg: string
  readonly ffprobe: string
  /** The version of ffmpeg, or null when it cannot be run. */
  version (): Promise<string | null>
}

export function useFfmpeg (ffmpeg: string, ffprobe: string): Ffmpeg {
  return {
    ffmpeg,
    ffprobe,
    async version () {
      try {
        const { stdout } = await run(ffmpeg, ['-version'], { timeout: 5000, env: childEnvironment() })
        return /^ffmpeg version (\S+)/.exec(stdout)?.[1] ?? 'unknown'
      } catch {
        return null
      }
    }
  }
}

/** Properties of a media file, measured by ffprobe. */
export interface MediaFacts {
  readonly durationSeconds: number | null
  readonly width: number | null
  readonly height: number | null
}

/** Measures a file. Throws `MARTY_CAMERA_FFMPEG_FAILED` when it is not playable. */
export async function probe (tools: Ffmpeg, file: string): Promise<MediaFacts> {
  const { stdout } = await bounded(
    tools.ffprobe,
    ['-v', 'error', '-print_format', 'json', '-show_format', '-show_streams', file],
    15_000
  )
  const facts = JSON.parse(stdout) as {
    format?: { duration?: string }
    streams?: Array<{ codec_type?: string, width?: number, height?: number }>
  }
  const video = facts.streams?.find(stream => stream.codec_type === 'video')
  if (video === undefined) throw new FfmpegFailed({ cause: new Error(`${file} has no video`) })
  const seconds = Number(facts.format?.duration)
  return {
    durationSeconds: Number.isFinite(seconds) ? seconds : null,
    width: video.width ?? null,
    height: video.height ?? null
  }
}

/** Runs one of the programs until it exits, with a deadline. Never uses a shell, only argument lists. */
export async function bounded (
  command: string,
  args: readonly string[],
  timeoutMs: number
): Promise<{ readonly stdout: string }> {
  try {
    return await run(command, args as string[], {
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      maxBuffer: 4 << 20,
      env: childEnvironment()
    })
  } catch (error) {
    throw new FfmpegFailed({
      cause: new Error(
        redactUrls(String((error as { stderr?: string }).stderr || (error as Error).message)).slice(-2000)
      )
    })
  }
}

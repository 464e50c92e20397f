import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { FastifyBaseLogger } from 'fastify'
import type { FileRecord, Library, OpenRecording } from '../library/library.js'
import { asStorageError, type Storage } from '../library/storage.js'
import type { RuntimePath } from '../mediamtx/client.js'
import type { RecordSpec } from '../mediamtx/path-spec.js'
import { AlreadyRecording, NotRecording, RecordingFailed } from './errors.js'
import { probe, type Ffmpeg } from './ffmpeg.js'
import { baseName } from './file-name.js'
import { isFinished } from './fragmented-mp4.js'

export interface RecordingOptions {
  readonly library: Library
  readonly storage: Storage
  readonly tools: Ffmpeg
  readonly folder: string
  readonly log: FastifyBaseLogger
  /** Makes the media server do what `spec` says now. */
  readonly apply: () => Promise<void>
  readonly onEvent: (event: RecordingEvent) => void
  /** Longest wait for the first byte of footage, in milliseconds. @default 10000 */
  readonly startTimeoutMs?: number
}

export interface RecordingEvent {
  readonly device: string
  /** `WAITING`: no picture comes, and the recording goes on when one does; `RESUMED`: it does. */
  readonly status: 'STARTED' | 'WAITING' | 'RESUMED' | 'STOPPED' | 'ERROR'
  readonly filename: string
  readonly duration?: number
}

/** A recording that has ended, and the files it became: more than one when the stream was interrupted. */
export interface FinishedRecording {
  readonly recording: OpenRecording
  readonly endedAt: number
  readonly files: readonly FileRecord[]
}

/** What a camera's recording does at the moment. */
export type RecordingStatus = 'OFF' | 'RECORDING' | 'WAITING_FOR_CAMERA'

/**
 * At most one recording a camera, written by the media server without touching the picture. What happens to the camera
 * ends none: while it is away the recording waits, and makes another file when it is back.
 */
export interface Recorder {
  /** Finishes what an earlier run left open. */
  recover (): Promise<void>
  start (camera: string, durationSeconds: number | null, startedBy: string): Promise<OpenRecording>
  stop (camera: string): Promise<FinishedRecording>
  /** The recording of a camera that is under way. */
  current (camera: string): OpenRecording | null
  status (camera: string): RecordingStatus
  /** Follows what runs at the media server, by camera; null while it does not answer. */
  observe (paths: ReadonlyMap<string, RuntimePath> | null): void
  /** What the media server should do for a camera now. */
  spec (camera: string): RecordSpec | null
  /** Finishes every recording. */
  close (): Promise<void>
}

interface Active {
  readonly recording: OpenRecording
  readonly flow: Flow
  /** Whether its start has been reported: only then can it wait or resume. */
  begun: boolean
  waiting: boolean
  timer: NodeJS.Timeout | undefined
  finishing: Promise<FinishedRecording> | null
}

/** A picture of which no byte has come for this long does not flow. The media server notices after 10 s. */
const SILENCE_MS = 5000
/** How often the space left is looked at while something is recorded. */
const SPACE_CHECK_MS = 5000

export function createRecorder (options: RecordingOptions): Recorder {
  const { library, storage, tools, folder, log, apply, onEvent, startTimeoutMs = 10_000 } = options
  const active = new Map<string, Active>()
  const recording = new Set<string>()

  const spaceCheck = setInterval(() => {
    if (active.size === 0) return
    storage.assertSpace().catch((error: unknown) => {
      log.error({ err: error }, 'too little space is left: recordings are finished')
      finishAll().catch(() => { /* each has told of its own failure */ })
    })
  }, SPACE_CHECK_MS)
  spaceCheck.unref()

  /** Emits an event when a recording begins to wait for its camera, and when it goes on. */
  function follow (entry: Active, path: RuntimePath | undefined): void {
    const { recording: { camera, name } } = entry
    const waiting = !entry.flow.observe(path?.available === true ? path.inboundBytes : null)
    if (waiting === entry.waiting) return
    entry.waiting = waiting
    log.info({ camera, recording: name }, waiting ? 'the recording waits for its camera' : 'the recording goes on')
    onEvent({ device: camera, status: waiting ? 'WAITING' : 'RESUMED', filename: `${name}.mp4` })
  }

  async function finishAll (): Promise<void> {
    await Promise.allSettled([...active.values()].map(entry => {
      entry.finishing ??= finish(entry)
      return entry.finishing
    }))
  }

  async function finish (entry: Active, interrupted = false): Promise<FinishedRecording> {
    const { recording: open } = entry
    clearTimeout(entry.timer)
    recording.delete(open.camera)
    // A media server that is down has closed its files by dying.
    if (!interrupted) {
      await apply().catch((error: unknown) => {
        log.warn({ err: error }, 'the media server could not be told that a recording ends')
      })
    }
    try {
      const files = await collect(open)
      library.closeRecording(open.id, files)
      await rm(open.folder, { recursive: true, force: true })
      const endedAt = Date.now()
      const duration = files.reduce((sum, file) => sum + (file.durationSeconds ?? 0), 0)
      onEvent({
        device: open.camera,
        status: files.length > 0 ? 'STOPPED' : 'ERROR',
        filename: files[0]?.name ?? `${open.name}.mp4`,
        duration
      })
      log.info({ camera: open.camera, files: files.map(file => file.name), seconds: duration }, 'recording finished')
      return { recording: open, endedAt, files }
    } catch (error) {
      throw asStorageError(error)
    } finally {
      release(entry)
    }
  }

  function release (entry: Active): void {
    if (active.get(entry.recording.camera) === entry) active.delete(entry.recording.camera)
  }

  /** Moves the segments of a recording to their lasting names. Footage that cannot be read is kept, and said so. */
  async function collect (open: OpenRecording): Promise<FileRecord[]> {
    const files: FileRecord[] = []
    // What an earlier, interrupted attempt has moved already comes first.
    for (const segment of [...await moved(open), ...await segments(open.folder)]) {
      await settled(segment)
      try {
        const facts = await probe(tools, segment)
        const name = `${open.name}${files.length === 0 ? '' : `_${files.length + 1}`}.mp4`
        const path = join(folder, name)
        const { size, birthtimeMs } = await stat(segment)
        await rename(segment, path)
        files.push({
          name,
          kind: 'recording',
          camera: open.camera,
          path,
          sizeBytes: size,
          createdAt: files.length === 0 ? open.startedAt : Math.round(birthtimeMs),
          durationSeconds: facts.durationSeconds,
          width: facts.width,
          height: facts.height
        })
      } catch (error) {
        const kept = join(folder, `.unreadable-${open.name}-${randomUUID()}.mp4`)
        await rename(segment, kept).catch(() => {})
        log.error({ err: error, file: kept }, 'a piece of a recording is not playable; it is kept beside the others')
      }
    }
    return files
  }

  async function moved (open: OpenRecording): Promise<string[]> {
    const names = await readdir(folder).catch(() => [])
    // By number: `_10` after `_9`, or the second file would be renamed over another.
    return names.filter(name => name.startsWith(open.name) && name.endsWith('.mp4'))
      .sort((a, b) => a.length - b.length || (a < b ? -1 : 1)).map(name => join(folder, name))
  }

  /** Waits until the media server has closed a segment, or no longer writes to it. */
  async function settled (file: string): Promise<void> {
    const deadline = Date.now() + 3000
    let last = -1
    while (Date.now() < deadline && !await isFinished(file)) {
      const { size, mtimeMs } = await stat(file)
      if (size === last && Date.now() - mtimeMs > 2500) return
      last = size
      await pause(50)
    }
  }

  /** When the footage begins, in milliseconds since the epoch; null when none comes. */
  async function firstFootage (open: OpenRecording): Promise<number | null> {
    const deadline = Date.now() + startTimeoutMs
    while (Date.now() < deadline && active.get(open.camera)?.finishing == null) {
      for (const segment of await segments(open.folder)) {
        if ((await stat(segment)).size > 0) return beginOf(segment) ?? Date.now()
      }
      await pause(50)
    }
    return null
  }

  return {
    async recover () {
      for (const open of library.openRecordings()) {
        log.warn({ camera: open.camera, recording: open.name }, 'finishing a recording that an earlier run left open')
        await finish(entryOf(open), true).catch((error: unknown) => {
          log.error(
            { err: error, camera: open.camera, recording: open.name },
            'an earlier recording cannot be finished now; its footage is kept and the next start tries again'
          )
        })
      }
    },

    async start (camera, durationSeconds, startedBy) {
      if (active.has(camera)) {
        throw new AlreadyRecording({
          data: { device: camera, current_file: `${active.get(camera)!.recording.name}.mp4` }
        })
      }
      const startedAt = Date.now()
      const id = randomUUID()
      const open: OpenRecording = {
        id,
        camera,
        folder: join(folder, '.open', id),
        name: baseName(camera, startedAt),
        startedAt,
        durationSeconds,
        startedBy
      }
      const entry = entryOf(open)
      // Taken before the first wait, so that two calls at once cannot both begin.
      active.set(camera, entry)
      let footageFrom = startedAt
      try {
        await storage.assertSpace()
        await mkdir(open.folder, { recursive: true, mode: 0o700 })
        library.openRecording(open)
        recording.add(camera)
        await apply()
        const began = await firstFootage(open)
        // Stopped before it had begun: whoever stopped it has its outcome.
        if (entry.finishing !== null) {
          await entry.finishing
          throw new RecordingFailed('The recording was stopped before it began')
        }
        if (began === null) throw new RecordingFailed()
        footageFrom = began
      } catch (cause) {
        const error = asStorageError(cause)
        if (entry.finishing !== null) throw error
        recording.delete(camera)
        release(entry)
        await apply().catch(() => {})
        library.closeRecording(id, [])
        await rm(open.folder, { recursive: true, force: true })
        throw error
      }
      if (durationSeconds !== null) {
        entry.timer = setTimeout(() => {
          entry.finishing ??= finish(entry)
          entry.finishing.catch((error: unknown) => {
            log.error({ err: error, camera }, 'a recording could not be finished')
          })
        }, Math.max(0, footageFrom + durationSeconds * 1000 - Date.now()))
      }
      entry.begun = true
      onEvent({ device: camera, status: 'STARTED', filename: `${open.name}.mp4` })
      return open
    },

    async stop (camera) {
      const entry = active.get(camera)
      if (entry === undefined) throw new NotRecording({ data: { device: camera } })
      entry.finishing ??= finish(entry)
      return await entry.finishing
    },

    current: camera => active.get(camera)?.recording ?? null,

    status (camera) {
      const entry = active.get(camera)
      if (entry === undefined) return 'OFF'
      return entry.waiting ? 'WAITING_FOR_CAMERA' : 'RECORDING'
    },

    observe (paths) {
      for (const [camera, entry] of active) {
        if (entry.begun && entry.finishing === null) follow(entry, paths?.get(camera))
      }
    },

    spec (camera) {
      const entry = active.get(camera)
      return entry !== undefined && recording.has(camera) ? { folder: entry.recording.folder } : null
    },

    async close () {
      clearInterval(spaceCheck)
      await finishAll()
    }
  }
}

/** Whether bytes flow, from how many have come so far. */
interface Flow { observe (bytes: number | null): boolean }

function createFlow (): Flow {
  let last: number | null = null
  let grewAt = performance.now()
  return {
    observe (bytes) {
      const now = performance.now()
      if (bytes !== null && bytes !== last) grewAt = now
      last = bytes
      return bytes !== null && now - grewAt < SILENCE_MS
    }
  }
}

function entryOf (recording: OpenRecording): Active {
  return { recording, flow: createFlow(), begun: false, waiting: false, timer: undefined, finishing: null }
}

async function segments (folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries
    .filter(entry => entry.isFile() && entry.name.endsWith('.mp4'))
    .map(entry => join(entry.parentPath, entry.name))
    .sort()
}

/** The media server names a segment after the time of its first picture: `seconds-microseconds.mp4`. */
function beginOf (segment: string): number | null {
  const [, seconds, micros] = /^(\d+)-(\d{6})\.mp4$/.exec(basename(segment)) ?? []
  return seconds === undefined ? null : Number(seconds) * 1000 + Number(micros) / 1000
}

function pause (ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

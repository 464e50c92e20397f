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
  /** Applies the current result of `spec` to the media server. */
  readonly apply: () => Promise<void>
  readonly onEvent: (event: RecordingEvent) => void
  /** Timeout for the first byte of footage, in milliseconds. @default 10000 */
  readonly startTimeoutMs?: number
}

export interface RecordingEvent {
  readonly device: string
  /** `WAITING`: no video arrives; the recording continues when it returns. `RESUMED`: the video has returned. */
  readonly status: 'STARTED' | 'WAITING' | 'RESUMED' | 'STOPPED' | 'ERROR'
  readonly filename: string
  readonly duration?: number
}

/** A recording that has ended, and its files: more than one if the stream was interrupted. */
export interface FinishedRecording {
  readonly recording: OpenRecording
  readonly endedAt: number
  readonly files: readonly FileRecord[]
}

/** The current state of a camera's recording. */
export type RecordingStatus = 'OFF' | 'RECORDING' | 'WAITING_FOR_CAMERA'

/**
 * Makes recordings, at most one per camera at a time. The media server writes the video without re-encoding it. A
 * camera failure does not end a recording: it waits while the camera is unavailable, then continues in another file.
 */
export interface Recorder {
  /** Finishes recordings that an earlier run left open. */
  recover (): Promise<void>
  start (camera: string, durationSeconds: number | null, startedBy: string): Promise<OpenRecording>
  stop (camera: string): Promise<FinishedRecording>
  /** The active recording of a camera, or null. */
  current (camera: string): OpenRecording | null
  status (camera: string): RecordingStatus
  /** Updates the recordings from the active paths of the media server, by camera id; null while it does not respond. */
  observe (paths: ReadonlyMap<string, RuntimePath> | null): void
  /** What the media server should record for a camera now; null for nothing. */
  spec (camera: string): RecordSpec | null
  /** Finishes every recording. */
  close (): Promise<void>
}

interface Active {
  readonly recording: OpenRecording
  readonly flow: Flow
  /** Whether STARTED has been emitted. WAITING and RESUMED are emitted only after it. */
  begun: boolean
  waiting: boolean
  timer: NodeJS.Timeout | undefined
  finishing: Promise<FinishedRecording> | null
}

/** Without a new byte for this long, a stream counts as interrupted. The media server itself notices after 10 s. */
const SILENCE_MS = 5000
/** How often the free space is checked while a recording is active. */
const SPACE_CHECK_MS = 5000

export function createRecorder (options: RecordingOptions): Recorder {
  const { library, storage, tools, folder, log, apply, onEvent, startTimeoutMs = 10_000 } = options
  const active = new Map<string, Active>()
  const recording = new Set<string>()

  const spaceCheck = setInterval(() => {
    if (active.size === 0) return
    storage.assertSpace().catch((error: unknown) => {
      log.error({ err: error }, 'too little space is left: recordings are finished')
      finishAll().catch(() => { /* each recording reports its own failure */ })
    })
  }, SPACE_CHECK_MS)
  spaceCheck.unref()

  /** Emits an event when a recording starts to wait for its camera, and when it continues. */
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
    // During recovery the media server is not running yet: its files were closed when the earlier process ended.
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

  /** Moves the segments of a recording to their permanent names. Unreadable footage is kept, and an error is logged. */
  async function collect (open: OpenRecording): Promise<FileRecord[]> {
    const files: FileRecord[] = []
    // Files that an earlier, interrupted attempt has already moved come first.
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
    // Sort by number, `_10` after `_9`. Otherwise renaming would overwrite another file.
    return names.filter(name => name.startsWith(open.name) && name.endsWith('.mp4'))
      .sort((a, b) => a.length - b.length || (a < b ? -1 : 1)).map(name => join(folder, name))
  }

  /** Waits until the media server has closed a segment or stopped writing to it, for at most 3 s. */
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

  /** Waits for the first footage. Returns its start in milliseconds since the epoch; null if none arrives in time. */
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
      // Added before the first await, so that two concurrent calls cannot both start a recording.
      active.set(camera, entry)
      let footageFrom = startedAt
      try {
        await storage.assertSpace()
        await mkdir(open.folder, { recursive: true, mode: 0o700 })
        library.openRecording(open)
        recording.add(camera)
        await apply()
        const began = await firstFootage(open)
        // stop() was called before the recording started: that caller receives the result.
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

/** Detects from the number of received bytes whether video is arriving. */
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

/** The media server names a segment after the time of its first frame: `seconds-microseconds.mp4`. */
function beginOf (segment: string): number | null {
  const [, seconds, micros] = /^(\d+)-(\d{6})\.mp4$/.exec(basename(segment)) ?? []
  return seconds === undefined ? null : Number(seconds) * 1000 + Number(micros) / 1000
}

function pause (ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

import { randomUUID } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyBaseLogger } from 'fastify'
import type { FileRecord, Library, OpenRecording } from '../library/library.js'
import { asStorageError, type Storage } from '../library/storage.js'
import type { RuntimePath } from '../mediamtx/client.js'
import type { ActivePaths } from '../mediamtx/reconciler.js'
import type { RecordingPlan } from '../mediamtx/recording-plan.js'
import { AlreadyRecording, NotRecording, RecordingFailed } from './errors.js'
import type { Ffmpeg } from './ffmpeg.js'
import { baseName } from './file-name.js'
import { firstFootage, keepSegments } from './segments.js'
import { StreamMonitor } from './stream-monitor.js'

export interface RecorderOptions {
  readonly library: Library
  readonly storage: Storage
  readonly tools: Ffmpeg
  readonly folder: string
  readonly log: FastifyBaseLogger
  readonly plan: RecordingPlan
  /** Applies the plan to the media server. */
  readonly apply: () => Promise<void>
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

export interface RecorderEvents { change: [event: RecordingEvent] }

/** A recording that has ended, and its files: more than one if the stream was interrupted. */
export interface FinishedRecording {
  readonly recording: OpenRecording
  readonly endedAt: number
  readonly files: readonly FileRecord[]
}

/** The current state of a camera's recording. */
export type RecordingStatus = 'OFF' | 'RECORDING' | 'WAITING_FOR_CAMERA'

interface ActiveRecording {
  readonly recording: OpenRecording
  readonly stream: StreamMonitor
  /** Whether STARTED has been emitted. WAITING and RESUMED are emitted only after it. */
  hasStarted: boolean
  isWaiting: boolean
  /** Ends a recording of limited length. */
  timer: NodeJS.Timeout | undefined
  finishing: Promise<FinishedRecording> | null
}

/** How often the free space is checked while a recording is active. */
const SPACE_CHECK_MS = 5000

/**
 * Makes recordings, at most one per camera at a time. The media server writes the video without re-encoding it. A
 * camera failure does not end a recording: it waits while the camera is unavailable, then continues in another file.
 */
export class Recorder extends EventEmitter<RecorderEvents> {
  readonly #options: RecorderOptions
  readonly #log: FastifyBaseLogger
  readonly #startTimeoutMs: number
  readonly #active = new Map<string, ActiveRecording>()
  readonly #spaceCheck: NodeJS.Timeout

  constructor (options: RecorderOptions) {
    super()
    this.#options = options
    this.#log = options.log
    this.#startTimeoutMs = options.startTimeoutMs ?? 10_000
    this.#spaceCheck = setInterval(() => { this.#checkSpace() }, SPACE_CHECK_MS)
    this.#spaceCheck.unref()
  }

  /** Finishes recordings that an earlier run left open. */
  async recover (): Promise<void> {
    for (const recording of this.#options.library.openRecordings()) {
      const { camera, name } = recording
      this.#log.warn({ camera, recording: name }, 'finishing a recording that an earlier run left open')
      try {
        await this.#keep(newEntry(recording))
      } catch (error) {
        this.#log.error(
          { err: error, camera, recording: name },
          'a recording of an earlier run cannot be finished now; its footage is kept and the next start tries again'
        )
      }
    }
  }

  async start (camera: string, durationSeconds: number | null, startedBy: string): Promise<OpenRecording> {
    const current = this.current(camera)
    if (current !== null) {
      throw new AlreadyRecording({ data: { device: camera, current_file: `${current.name}.mp4` } })
    }
    const entry = newEntry(this.#describe(camera, durationSeconds, startedBy))
    const { recording } = entry
    // Added before the first await, so that two concurrent calls cannot both start a recording.
    this.#active.set(camera, entry)
    let footageFrom: number | null
    try {
      footageFrom = await this.#begin(entry)
      if (footageFrom === null && isWanted(entry)) throw new RecordingFailed()
    } catch (cause) {
      const error = asStorageError(cause)
      if (isWanted(entry)) await this.#abandon(entry)
      throw error
    }
    if (footageFrom === null || !isWanted(entry)) return await this.#refuseStopped(entry)
    // Without an await up to here, so that stop() is called either before the start or after it.
    entry.hasStarted = true
    if (durationSeconds !== null) this.#finishAt(entry, footageFrom + durationSeconds * 1000)
    this.emit('change', { device: camera, status: 'STARTED', filename: `${recording.name}.mp4` })
    return recording
  }

  async stop (camera: string): Promise<FinishedRecording> {
    const entry = this.#active.get(camera)
    if (entry === undefined) throw new NotRecording({ data: { device: camera } })
    return await this.#finish(entry)
  }

  /** The active recording of a camera, or null. */
  current (camera: string): OpenRecording | null {
    return this.#active.get(camera)?.recording ?? null
  }

  status (camera: string): RecordingStatus {
    const entry = this.#active.get(camera)
    if (entry === undefined) return 'OFF'
    return entry.isWaiting ? 'WAITING_FOR_CAMERA' : 'RECORDING'
  }

  /** Updates the recordings from the active paths of the media server. */
  observe (paths: ActivePaths): void {
    for (const [camera, entry] of this.#active) {
      if (entry.hasStarted && isWanted(entry)) this.#follow(entry, paths?.get(camera))
    }
  }

  /** Finishes every recording. */
  async close (): Promise<void> {
    clearInterval(this.#spaceCheck)
    await this.#finishAll()
  }

  #describe (camera: string, durationSeconds: number | null, startedBy: string): OpenRecording {
    const startedAt = Date.now()
    const id = randomUUID()
    return {
      id,
      camera,
      folder: join(this.#options.folder, '.open', id),
      name: baseName(camera, startedAt),
      startedAt,
      durationSeconds,
      startedBy
    }
  }

  /**
   * Waits for the first footage and returns its start, in milliseconds since the epoch. Null if none arrives in time,
   * or if stop() is called.
   */
  async #begin (entry: ActiveRecording): Promise<number | null> {
    const { library, storage, plan, apply } = this.#options
    const { recording } = entry
    await storage.assertSpace()
    await mkdir(recording.folder, { recursive: true, mode: 0o700 })
    // What stop() has already closed must not be opened again.
    if (!isWanted(entry)) return null
    library.openRecording(recording)
    plan.add(recording.camera, recording.folder)
    await apply()
    return await firstFootage(recording.folder, this.#startTimeoutMs, () => isWanted(entry))
  }

  /** For a recording that was stopped before it started. The caller of stop() receives the result. */
  async #refuseStopped (entry: ActiveRecording): Promise<never> {
    await entry.finishing
    await rm(entry.recording.folder, { recursive: true, force: true })
    throw new RecordingFailed('The recording was stopped before it started')
  }

  /** Undoes what `#begin` has done before it failed. */
  async #abandon (entry: ActiveRecording): Promise<void> {
    const { library, plan, apply } = this.#options
    const { recording } = entry
    plan.remove(recording.camera)
    this.#release(entry)
    await apply().catch(() => { /* the next reconciliation applies the plan */ })
    library.closeRecording(recording.id, [])
    await rm(recording.folder, { recursive: true, force: true })
  }

  #finishAt (entry: ActiveRecording, time: number): void {
    entry.timer = setTimeout(() => {
      this.#finish(entry).catch((error: unknown) => {
        this.#log.error({ err: error, camera: entry.recording.camera }, 'a recording could not be finished')
      })
    }, Math.max(0, time - Date.now()))
  }

  /** Emits an event when a recording starts to wait for its camera, and when it continues. */
  #follow (entry: ActiveRecording, path: RuntimePath | undefined): void {
    const { camera, name } = entry.recording
    const isWaiting = !entry.stream.observe(path?.available === true ? path.inboundBytes : null)
    if (isWaiting === entry.isWaiting) return
    entry.isWaiting = isWaiting
    this.#log.info(
      { camera, recording: name },
      isWaiting ? 'the recording waits for its camera' : 'the recording continues'
    )
    this.emit('change', { device: camera, status: isWaiting ? 'WAITING' : 'RESUMED', filename: `${name}.mp4` })
  }

  #checkSpace (): void {
    if (this.#active.size === 0) return
    this.#options.storage.assertSpace().catch((error: unknown) => {
      this.#log.error({ err: error }, 'too little disk space is left; finishing all recordings')
      this.#finishAll().catch(() => { /* each recording reports its own failure */ })
    })
  }

  async #finishAll (): Promise<void> {
    await Promise.allSettled([...this.#active.values()].map(entry => this.#finish(entry)))
  }

  /** Finishes a recording once, however many callers ask for it. */
  #finish (entry: ActiveRecording): Promise<FinishedRecording> {
    entry.finishing ??= this.#stopAndKeep(entry)
    return entry.finishing
  }

  async #stopAndKeep (entry: ActiveRecording): Promise<FinishedRecording> {
    const { plan, apply } = this.#options
    clearTimeout(entry.timer)
    plan.remove(entry.recording.camera)
    await apply().catch((error: unknown) => {
      this.#log.warn({ err: error }, 'the media server could not be asked to stop recording; it stops when it responds')
    })
    return await this.#keep(entry)
  }

  /** Adds the files of an ended recording to the library. */
  async #keep (entry: ActiveRecording): Promise<FinishedRecording> {
    const { library } = this.#options
    const { recording } = entry
    const { camera } = recording
    let files: FileRecord[]
    try {
      files = await keepSegments(recording, this.#options)
      library.closeRecording(recording.id, files)
      await rm(recording.folder, { recursive: true, force: true })
    } catch (error) {
      throw asStorageError(error)
    } finally {
      this.#release(entry)
    }
    const endedAt = Date.now()
    const duration = files.reduce((sum, file) => sum + (file.durationSeconds ?? 0), 0)
    const filename = files[0]?.name ?? `${recording.name}.mp4`
    this.emit('change', { device: camera, status: files.length > 0 ? 'STOPPED' : 'ERROR', filename, duration })
    this.#log.info({ camera, files: files.map(file => file.name), seconds: duration }, 'recording finished')
    return { recording, endedAt, files }
  }

  #release (entry: ActiveRecording): void {
    const { camera } = entry.recording
    if (this.#active.get(camera) === entry) this.#active.delete(camera)
  }
}

function newEntry (recording: OpenRecording): ActiveRecording {
  return {
    recording,
    stream: new StreamMonitor(),
    hasStarted: false,
    isWaiting: false,
    timer: undefined,
    finishing: null
  }
}

/** False as soon as the recording is to end. */
function isWanted ({ finishing }: ActiveRecording): boolean {
  return finishing === null
}

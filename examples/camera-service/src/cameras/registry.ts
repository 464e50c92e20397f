import { EventEmitter } from 'node:events'
import { SingleFlight } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { CameraIdentity } from '../library/library.js'
import type { Camera, CameraStatus, Discovery, FoundCamera } from './camera.js'
import { CameraNotFound } from './errors.js'

export interface RegistryOptions {
  readonly discoveries: readonly Discovery[]
  readonly identify: (stableKey: string) => CameraIdentity
  readonly log: FastifyBaseLogger
  /** Interval in milliseconds at which discoveries run even if none has reported a change. @default 2000 */
  readonly intervalMs?: number
}

export interface RegistryEvents {
  /** A camera has been added, or its status, its detail or its source has changed. */
  change: [camera: Camera]
}

/** Which cameras exist, under which permanent id, and which of them are connected. */
export class CameraRegistry extends EventEmitter<RegistryEvents> {
  readonly #discoveries: readonly Discovery[]
  readonly #identify: (stableKey: string) => CameraIdentity
  readonly #log: FastifyBaseLogger
  readonly #intervalMs: number
  /** One search at a time. A change that is noticed during a search triggers one more. */
  readonly #searches = new SingleFlight(() => this.#searchAll())
  readonly #cameras = new Map<string, Camera>()
  readonly #ids = new Map<string, string>()
  /** The last error of each discovery that fails, so that the same error is logged once. */
  readonly #errors = new Map<string, string>()
  readonly #watches: Array<() => void> = []
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor ({ discoveries, identify, log, intervalMs = 2000 }: RegistryOptions) {
    super()
    this.#discoveries = discoveries
    this.#identify = identify
    this.#log = log
    this.#intervalMs = intervalMs
  }

  /** Searches for cameras, then keeps searching in the background. Resolves after the first search. */
  async start (): Promise<void> {
    await this.#searches.rerun()
    for (const discovery of this.#discoveries) {
      const stop = discovery.watch?.(() => { void this.#searches.rerun() })
      if (stop !== undefined) this.#watches.push(stop)
    }
    this.#timer = setInterval(() => { void this.#searches.rerun() }, this.#intervalMs)
  }

  async stop (): Promise<void> {
    this.#stopped = true
    clearInterval(this.#timer)
    for (const stop of this.#watches) stop()
    if (this.#searches.isRunning) await this.#searches.join()
  }

  /** Sorted by id, `camera2` before `camera10`. */
  list (): readonly Camera[] {
    return [...this.#cameras.values()].sort((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true }))
  }

  /** Throws `MARTY_CAMERA_NOT_FOUND`. */
  get (id: string): Camera {
    const camera = this.#cameras.get(id)
    if (camera === undefined) throw new CameraNotFound({ data: { device: id.slice(0, 100) } })
    return camera
  }

  /** Sets the status that the camera's stream shows: a connected source that delivers no video is in ERROR. */
  report (id: string, status: CameraStatus, detail: string): void {
    const camera = this.#cameras.get(id)
    if (camera === undefined) return
    // An unplugged camera stays DISCONNECTED until a discovery finds it again. Only network cameras are reported
    // connected by their stream.
    if (camera.status === 'DISCONNECTED' && camera.source.kind !== 'rtsp') return
    this.#update({ ...camera, status, detail, since: camera.status === status ? camera.since : Date.now() })
  }

  async #searchAll (): Promise<void> {
    if (this.#stopped) return
    const present = new Set<string>()
    for (const discovery of this.#discoveries) {
      for (const id of await this.#searchWith(discovery)) present.add(id)
    }
    for (const camera of this.#cameras.values()) {
      if (present.has(camera.id) || camera.status === 'DISCONNECTED') continue
      this.#update({ ...camera, status: 'DISCONNECTED', detail: 'the camera is not connected', since: Date.now() })
    }
  }

  /** Returns the ids of the cameras that are connected. */
  async #searchWith (discovery: Discovery): Promise<string[]> {
    try {
      const found = await discovery.find([...this.#cameras.values()])
      const ids = found.map(camera => this.#add(camera))
      this.#errors.delete(discovery.name)
      return ids
    } catch (error) {
      const text = String(error)
      if (this.#errors.get(discovery.name) !== text) {
        this.#log.warn({ err: error, discovery: discovery.name }, 'the search for cameras failed; it will be repeated')
      }
      this.#errors.set(discovery.name, text)
      // After a failed discovery, the state of its cameras is unknown: they keep their last status.
      return this.list().filter(camera => camera.source.kind === discovery.name).map(camera => camera.id)
    }
  }

  #add (found: FoundCamera): string {
    const id = this.#ids.get(found.stableKey) ?? this.#identify(found.stableKey).id
    this.#ids.set(found.stableKey, id)
    const before = this.#cameras.get(id)
    const source = before !== undefined && isSameSource(before.source, found.source) ? before.source : found.source
    this.#update({ ...found, source, id, ...stateOf(found, before) })
    return id
  }

  #update (next: Camera): void {
    const before = this.#cameras.get(next.id)
    if (
      before !== undefined &&
      before.status === next.status &&
      before.detail === next.detail &&
      before.source === next.source
    ) {
      return
    }
    this.#cameras.set(next.id, next)
    if (before?.status !== next.status) {
      const { id: camera, name, status, detail } = next
      this.#log.info({ camera, name, status, detail: detail || undefined }, 'the status of a camera has changed')
    }
    this.emit('change', next)
  }
}

/** The state of a camera that a discovery has found. */
function stateOf (found: FoundCamera, before: Camera | undefined): Pick<Camera, 'status' | 'detail' | 'since'> {
  const isNetworkCamera = found.source.kind === 'rtsp'
  if (before !== undefined && (before.status !== 'DISCONNECTED' || isNetworkCamera)) {
    return { status: before.status, detail: before.detail, since: before.since }
  }
  // A network camera counts as connected when its stream is, which only the media server can report.
  if (isNetworkCamera) return { status: 'DISCONNECTED', detail: 'not reached yet', since: Date.now() }
  return { status: 'CONNECTED', detail: '', since: Date.now() }
}

function isSameSource (a: FoundCamera['source'], b: FoundCamera['source']): boolean {
  if (a.kind !== b.kind) return false
  if (a.kind === 'v4l2' && b.kind === 'v4l2') return a.device.node === b.device.node
  if (a.kind === 'rtsp' && b.kind === 'rtsp') return a.url === b.url
  return true
}

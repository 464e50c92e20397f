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
  readonly onChange: (camera: Camera, before: Camera | null) => void
}

/** Which cameras exist, under which permanent id, and which of them are connected. */
export interface CameraRegistry {
  /** Searches for cameras, then keeps searching in the background. Resolves after the first search. */
  start (): Promise<void>
  list (): readonly Camera[]
  /** Throws `MARTY_CAMERA_NOT_FOUND`. */
  get (id: string): Camera
  /** Sets the status that the camera's stream shows: a connected source that delivers no video is in ERROR. */
  report (id: string, status: CameraStatus, detail: string): void
  stop (): Promise<void>
}

export function createRegistry (options: RegistryOptions): CameraRegistry {
  const { discoveries, identify, log, intervalMs = 2000 } = options
  const cameras = new Map<string, Camera>()
  const idOf = new Map<string, string>()
  const problems = new Map<string, string>()
  const watches: Array<() => void> = []
  let timer: NodeJS.Timeout | undefined
  let looking: Promise<void> | null = null
  let again = false
  let stopped = false

  function update (id: string, next: Camera): void {
    const before = cameras.get(id) ?? null
    if (
      before !== null &&
      before.status === next.status &&
      before.detail === next.detail &&
      before.source === next.source
    ) {
      return
    }
    cameras.set(id, next)
    if (before?.status !== next.status) {
      log.info({ camera: id, name: next.name, status: next.status, detail: next.detail || undefined }, 'camera status')
    }
    options.onChange(next, before)
  }

  function appear (found: FoundCamera): string {
    const id = idOf.get(found.stableKey) ?? identify(found.stableKey).id
    idOf.set(found.stableKey, id)
    const before = cameras.get(id)
    const back = before === undefined || (before.status === 'DISCONNECTED' && found.source.kind !== 'rtsp')
    update(id, {
      ...found,
      source: before !== undefined && sameSource(before.source, found.source) ? before.source : found.source,
      id,
      // A network camera counts as connected when its stream is, which only the media server can report.
      status: back ? (found.source.kind === 'rtsp' ? 'DISCONNECTED' : 'CONNECTED') : before.status,
      detail: back ? (found.source.kind === 'rtsp' ? 'not reached yet' : '') : before.detail,
      since: back ? Date.now() : before.since
    })
    return id
  }

  async function look (): Promise<void> {
    const present = new Set<string>()
    for (const discovery of discoveries) {
      try {
        for (const found of await discovery.find()) present.add(appear(found))
        problems.delete(discovery.name)
      } catch (error) {
        // After a failed discovery, the state of its cameras is unknown: they keep their last status.
        for (const camera of cameras.values()) if (discoveryOf(camera) === discovery.name) present.add(camera.id)
        const text = String(error)
        if (problems.get(discovery.name) !== text) {
          log.warn({ err: error, discovery: discovery.name }, 'cameras could not be looked for')
        }
        problems.set(discovery.name, text)
      }
    }
    for (const camera of cameras.values()) {
      if (present.has(camera.id) || camera.status === 'DISCONNECTED') continue
      update(camera.id, { ...camera, status: 'DISCONNECTED', detail: 'the camera is gone', since: Date.now() })
    }
  }

  /** Runs one search at a time. A change that is noticed during a search triggers one more. */
  function refresh (): Promise<void> {
    if (looking !== null) {
      again = true
      return looking
    }
    looking = look().finally(() => {
      looking = null
      if (again && !stopped) {
        again = false
        void refresh()
      }
    })
    return looking
  }

  return {
    async start () {
      await refresh()
      for (const discovery of discoveries) {
        const stop = discovery.watch?.(() => { void refresh() })
        if (stop !== undefined) watches.push(stop)
      }
      timer = setInterval(() => { void refresh() }, intervalMs)
    },
    list: () => [...cameras.values()].sort((a, b) => a.id.localeCompare(b.id, 'en', { numeric: true })),
    get (id) {
      const camera = cameras.get(id)
      if (camera === undefined) throw new CameraNotFound({ data: { device: id.slice(0, 100) } })
      return camera
    },
    report (id, status, detail) {
      const camera = cameras.get(id)
      if (camera === undefined) return
      // An unplugged camera stays DISCONNECTED until a discovery finds it again. Only network cameras are reported
      // connected by their stream.
      if (camera.status === 'DISCONNECTED' && camera.source.kind !== 'rtsp') return
      update(id, { ...camera, status, detail, since: camera.status === status ? camera.since : Date.now() })
    },
    async stop () {
      stopped = true
      clearInterval(timer)
      for (const stop of watches) stop()
      await looking
    }
  }
}

function discoveryOf (camera: Camera): string {
  return camera.source.kind
}

function sameSource (a: FoundCamera['source'], b: FoundCamera['source']): boolean {
  if (a.kind !== b.kind) return false
  if (a.kind === 'v4l2' && b.kind === 'v4l2') return a.device.node === b.device.node
  if (a.kind === 'rtsp' && b.kind === 'rtsp') return a.url === b.url
  return true
}

import type { FastifyBaseLogger } from 'fastify'
import type { RuntimePath } from '../mediamtx/client.js'
import type { Camera } from './camera.js'
import { startPublisher, type Publisher } from './publisher.js'

export interface PublishersOptions {
  readonly ffmpeg: string
  /** Returns the URL to publish a camera to, with a publish key for it. */
  readonly target: (camera: Camera) => string
  /** Whether the media server is running and has the camera's path. */
  readonly ready: (camera: Camera) => boolean
  /** Called when a camera's stream has started. */
  readonly onFlowing: (camera: Camera) => void
  readonly report: (id: string, status: 'CONNECTED' | 'ERROR', detail: string) => void
  readonly log: FastifyBaseLogger
}

/** One publisher for each connected local camera. */
export interface Publishers {
  /** Call it when a camera has appeared, vanished, or moved to another device node. */
  follow (camera: Camera): void
  observe (paths: ReadonlyMap<string, RuntimePath> | null): void
  /** Restarts every ffmpeg. After a restart of the media server, their connections are lost. */
  restartAll (): void
  stop (): Promise<void>
}

export function createPublishers (options: PublishersOptions): Publishers {
  const publishers = new Map<string, { readonly camera: Camera, readonly publisher: Publisher }>()
  // Only one ffmpeg can open a device: the next one starts when the previous one has ended.
  const endings = new Map<string, Promise<void>>()
  let stopped = false

  function end (id: string): void {
    const current = publishers.get(id)
    if (current === undefined) return
    publishers.delete(id)
    const before = endings.get(id) ?? Promise.resolve()
    const ending = Promise.all([before, current.publisher.stop()]).then(() => {
      if (endings.get(id) === ending) endings.delete(id)
    })
    endings.set(id, ending)
  }

  function begin (camera: Camera): void {
    const ending = endings.get(camera.id)
    if (ending !== undefined) {
      void ending.then(() => { if (!stopped && wanted.get(camera.id) === camera) begin(camera) })
      return
    }
    if (publishers.has(camera.id)) return
    publishers.set(camera.id, {
      camera,
      publisher: startPublisher({
        camera,
        ffmpeg: options.ffmpeg,
        log: options.log,
        target: () => options.target(camera),
        ready: () => options.ready(camera),
        onFlowing: () => { options.onFlowing(camera) },
        report: (status, detail) => { options.report(camera.id, status, detail) }
      })
    })
  }

  const wanted = new Map<string, Camera>()

  return {
    follow (camera) {
      if (camera.source.kind === 'rtsp' || stopped) return
      if (camera.status === 'DISCONNECTED') {
        wanted.delete(camera.id)
        end(camera.id)
        return
      }
      if (wanted.get(camera.id)?.source === camera.source) return
      wanted.set(camera.id, camera)
      end(camera.id)
      begin(camera)
    },
    observe (paths) {
      for (const [id, { publisher }] of publishers) {
        const path = paths?.get(id)
        publisher.observe(path?.available === true ? path.inboundBytes : null)
      }
    },
    restartAll () { for (const { publisher } of publishers.values()) publisher.restart() },
    async stop () {
      stopped = true
      for (const id of [...publishers.keys()]) end(id)
      await Promise.all(endings.values())
    }
  }
}

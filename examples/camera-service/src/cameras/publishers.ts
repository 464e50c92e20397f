import type { FastifyBaseLogger } from 'fastify'
import type { RuntimePath } from '../mediamtx/client.js'
import type { Camera } from './camera.js'
import { Publisher } from './publisher.js'

export interface PublishersOptions {
  readonly ffmpeg: string
  /** Returns the URL to publish a camera to, with a publish key for it. */
  readonly target: (camera: Camera) => string
  /** Whether the media server is running and has the camera's path. */
  readonly isReady: (camera: Camera) => boolean
  /** Called when a camera's stream has started. */
  readonly onStreaming: (camera: Camera) => void
  readonly report: (id: string, status: 'CONNECTED' | 'ERROR', detail: string) => void
  readonly log: FastifyBaseLogger
}

/** One publisher for each connected local camera. */
export class Publishers {
  readonly #options: PublishersOptions
  /** The connected local cameras. */
  readonly #cameras = new Map<string, Camera>()
  readonly #publishers = new Map<string, Publisher>()
  /** Only one ffmpeg can open a device: the next one starts when the previous one has ended. */
  readonly #endings = new Map<string, Promise<void>>()
  #stopped = false

  constructor (options: PublishersOptions) {
    this.#options = options
  }

  /** Call it when a camera has appeared, vanished, or moved to another device node. */
  follow (camera: Camera): void {
    const { id } = camera
    if (camera.source.kind === 'rtsp' || this.#stopped) return
    if (camera.status === 'DISCONNECTED') {
      this.#cameras.delete(id)
      this.#end(id)
      return
    }
    if (this.#cameras.get(id)?.source === camera.source) return
    this.#cameras.set(id, camera)
    this.#end(id)
    this.#begin(camera)
  }

  /** Reports to each publisher how much the media server has received from it. */
  observe (paths: ReadonlyMap<string, RuntimePath> | null): void {
    for (const [id, publisher] of this.#publishers) {
      const path = paths?.get(id)
      publisher.observe(path?.available === true ? path.inboundBytes : null)
    }
  }

  /** Restarts every ffmpeg. After a restart of the media server, their connections are lost. */
  restartAll (): void {
    for (const publisher of this.#publishers.values()) publisher.restart()
  }

  async stop (): Promise<void> {
    this.#stopped = true
    for (const id of [...this.#publishers.keys()]) this.#end(id)
    await Promise.all(this.#endings.values())
  }

  #begin (camera: Camera): void {
    const { id } = camera
    const ending = this.#endings.get(id)
    if (ending !== undefined) {
      void ending.then(() => { if (!this.#stopped && this.#cameras.get(id) === camera) this.#begin(camera) })
      return
    }
    if (this.#publishers.has(id)) return
    const { ffmpeg, log, target, isReady, onStreaming, report } = this.#options
    const publisher = new Publisher({
      camera,
      ffmpeg,
      log,
      target: () => target(camera),
      isReady: () => isReady(camera),
      onStreaming: () => { onStreaming(camera) },
      report: (status, detail) => { report(id, status, detail) }
    })
    this.#publishers.set(id, publisher)
    publisher.start()
  }

  #end (id: string): void {
    const publisher = this.#publishers.get(id)
    if (publisher === undefined) return
    this.#publishers.delete(id)
    const before = this.#endings.get(id) ?? Promise.resolve()
    const ending = Promise.all([before, publisher.stop()]).then(() => {
      if (this.#endings.get(id) === ending) this.#endings.delete(id)
    })
    this.#endings.set(id, ending)
  }
}

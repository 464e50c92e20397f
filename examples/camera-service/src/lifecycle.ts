import type { RedisConnection } from '@marty/redis'
import type { FastifyInstance } from 'fastify'
import type { Library } from './library/library.js'
import type { MediaPlane } from './media-plane.js'
import type { MediaServer } from './media-server.js'
import type { MediaSessions } from './mediamtx/media-sessions.js'
import { assertPortsAreFree } from './settings/ports.js'
import type { CameraServiceConfig } from './settings/schema.js'

/** The parts of the service that listen, run or hold something open. */
export interface ServiceParts {
  readonly config: CameraServiceConfig
  /** The page, the JSON-RPC API and the files. */
  readonly app: FastifyInstance
  readonly healthServer: FastifyInstance
  readonly mediaServer: MediaServer
  readonly media: MediaPlane
  readonly sessions: MediaSessions
  readonly redis: RedisConnection | null
  readonly library: Library
}

/** Starts the servers, then MediaMTX, then the search for cameras. After a failure, `closeParts` must be called. */
export async function openParts (parts: ServiceParts): Promise<void> {
  const { config: { server, health, mediamtx }, app, healthServer, mediaServer, media, sessions } = parts
  await app.ready()
  await assertPortsAreFree(parts.config, await mediaServer.endLeftover())
  await mediaServer.auth.listen({ host: '127.0.0.1', port: mediamtx.auth_port })
  await app.listen({ host: server.host, port: server.port })
  await healthServer.listen({ host: server.host, port: health.port })
  await media.recorder.recover()
  if (mediaServer.process !== null) {
    await mediaServer.process.start()
    media.reconciler.start()
    sessions.start()
  }
  await media.cameras.start()
}

/**
 * Closes everything, in the order in which nothing is lost: no new calls, then the recordings while MediaMTX still
 * writes them, then MediaMTX, and last what the others were using.
 */
export async function closeParts (parts: ServiceParts): Promise<void> {
  const { app, healthServer, mediaServer, media, sessions, redis, library } = parts
  healthServer.health.drain()
  await Promise.allSettled([app.close(), media.cameras.stop()])
  await Promise.allSettled([media.recorder.close(), media.publishers.stop()])
  sessions.stop()
  await media.reconciler.stop()
  await mediaServer.process?.stop()
  await Promise.allSettled([mediaServer.auth.close(), healthServer.close(), redis?.close()])
  library.close()
}

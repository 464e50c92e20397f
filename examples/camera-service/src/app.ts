import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openRedis } from '@marty/redis'
import type { FastifyInstance } from 'fastify'
import { createHealthServer } from './health-server.js'
import { createHttpServer, registerApi } from './http-server.js'
import { openLibrary } from './library/library.js'
import { useStorage } from './library/storage.js'
import { closeParts, openParts } from './lifecycle.js'
import { useFfmpeg } from './media/ffmpeg.js'
import { createMediaPlane } from './media-plane.js'
import { createMediaServer } from './media-server.js'
import { findMediaMtx } from './mediamtx/binary.js'
import { addressesOf, portOf, streamHosts, type ServiceAddresses } from './settings/addresses.js'
import { loadSecrets } from './settings/secrets.js'
import { shipped, type Settings } from './settings/settings.js'
import { startWarnings } from './start-warnings.js'
import { TlsListener } from './tls/tls-listener.js'

/** A running camera service. */
export interface CameraService {
  readonly app: FastifyInstance
  readonly addresses: ServiceAddresses
  /** Problems that do not prevent the service from running, as sentences for an operator. */
  readonly warnings: readonly string[]
  /**
   * Reloads the certificate and its key. Open connections stay. If the new files cannot be used, the reason is logged
   * and the old certificate stays in use.
   */
  reloadCertificate (): void
  close (): Promise<void>
}

/** A camera service whose servers do not listen yet, and that has started no process. */
export interface CreatedCameraService extends CameraService {
  open (): Promise<void>
}

export async function startCameraService (settings: Settings): Promise<CameraService> {
  const service = await createCameraService(settings)
  try {
    await service.open()
  } catch (error) {
    await service.close()
    throw error
  }
  return service
}

/** The composition root: creates every part after the parts that it needs. */
export async function createCameraService (settings: Settings): Promise<CreatedCameraService> {
  const { config, dataDir } = settings
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const hosts = streamHosts(settings)
  const tls = settings.tls === null ? null : new TlsListener(settings.tls, hosts.host)
  const secrets = await loadSecrets(dataDir, config.security.jwt.secret_key)
  const redis = config.redis.url === '' ? null : openRedis({ url: config.redis.url })
  const app = createHttpServer(settings, tls)

  const library = openLibrary(join(dataDir, 'library.sqlite'))
  const storage = useStorage(settings.recordings, config.storage.warn_percent, config.storage.block_percent)
  const tools = useFfmpeg(config.ffmpeg.ffmpeg, config.ffmpeg.ffprobe)
  const search = await findMediaMtx(settings.mediamtxBinary, settings.searchPath, shipped.mediamtx)
  const warnings = startWarnings({ settings, tls, ffmpeg: await tools.version(), search })

  const media = createMediaPlane({ settings, library, storage, tools, log: app.log })
  const parts = { settings, hosts, tls, secrets, redis, library, storage, tools, media, search }
  const sessions = await registerApi(app, parts)
  const mediaServer = createMediaServer(app, { ...parts, sessions })
  const healthServer = await createHealthServer(app, { ...parts, mediaMtx: mediaServer.process })

  const running = { config, app, healthServer, mediaServer, media, sessions, redis, library }
  let closing: Promise<void> | undefined
  const close = (): Promise<void> => (closing ??= closeParts(running))
  return {
    app,
    warnings,
    get addresses () {
      return addressesOf(hosts, portOf(app), config.server.websocket_path, portOf(healthServer))
    },
    reloadCertificate: () => { tls?.reload() },
    open: async () => { await openParts(running) },
    close
  }
}

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { openRedis } from '@marty/redis'
import type { FastifyInstance } from 'fastify'
import { createHealthServer } from './health-server.js'
import { createHttpServer, registerApi } from './http-server.js'
import { openLibrary } from './library/library.js'
import { useStorage } from './library/storage.js'
import { useFfmpeg } from './media/ffmpeg.js'
import { createMediaPlane } from './media-plane.js'
import { createMediaServer } from './media-server.js'
import { findMediaMtx } from './mediamtx/binary.js'
import { addressesOf, portOf, streamHosts, type ServiceAddresses } from './settings/addresses.js'
import { assertPortsAreFree } from './settings/ports.js'
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

/** The composition root: creates every part after the parts that it needs, then starts servers and processes. */
export async function startCameraService (settings: Settings): Promise<CameraService> {
  const { config, dataDir } = settings
  const { server } = config
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

  const close = once(async () => {
    healthServer.health.drain()
    await Promise.allSettled([app.close(), media.cameras.stop()])
    await Promise.allSettled([media.recorder.close(), media.publishers.stop()])
    sessions.stop()
    await media.reconciler.stop()
    await mediaServer.process?.stop()
    await Promise.allSettled([mediaServer.auth.close(), healthServer.close(), redis?.close()])
    library.close()
  })

  // From here on, a failed step must close what earlier steps have opened.
  try {
    await app.ready()
    await assertPortsAreFree(config, await mediaServer.endLeftover())
    await mediaServer.auth.listen({ host: '127.0.0.1', port: config.mediamtx.auth_port })
    await app.listen({ host: server.host, port: server.port })
    await healthServer.listen({ host: server.host, port: config.health.port })
    await media.recorder.recover()
    if (mediaServer.process !== null) {
      await mediaServer.process.start()
      media.reconciler.start()
      sessions.start()
    }
    await media.cameras.start()
  } catch (error) {
    await close()
    throw error
  }
  return {
    app,
    warnings,
    addresses: addressesOf(hosts, portOf(app), server.websocket_path, portOf(healthServer)),
    reloadCertificate: () => { tls?.reload() },
    close
  }
}

function once (action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined
  return () => {
    done ??= action()
    return done
  }
}

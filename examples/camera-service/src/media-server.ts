import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { FastifyInstance } from 'fastify'
import { mediaAuthServer } from './api/routes/media-auth.js'
import type { MediaPlane } from './media-plane.js'
import type { MediaMtxSearch } from './mediamtx/binary.js'
import { mediaMtxConfig, writeMediaMtxConfig, type MediaMtxNetwork } from './mediamtx/config-file.js'
import type { MediaSessions } from './mediamtx/media-sessions.js'
import { endLeftover, MediaMtxProcess } from './mediamtx/process.js'
import { replaceWhenUnresponsive } from './mediamtx/replace-unresponsive.js'
import type { StreamHosts } from './mediamtx/stream-urls.js'
import { pageOrigins, portOf } from './settings/addresses.js'
import type { Settings } from './settings/settings.js'

/** MediaMTX as a child process, and the listener to which it sends its authentication requests. */
export interface MediaServer {
  readonly auth: FastifyInstance
  /** Null when MediaMTX was not found. */
  readonly process: MediaMtxProcess | null
  /** Ends a MediaMTX process that an earlier run of this service left behind. Returns whether there was one. */
  endLeftover (): Promise<boolean>
}

export interface MediaServerOptions {
  readonly settings: Settings
  readonly hosts: StreamHosts
  readonly search: MediaMtxSearch
  readonly media: MediaPlane
  readonly sessions: MediaSessions
}

/** `app` is the server of the page, whose origin may play the streams. */
export function createMediaServer (app: FastifyInstance, options: MediaServerOptions): MediaServer {
  const { settings, hosts, search: { binary }, media, sessions } = options
  const { log } = app
  const secretPath = `/${randomBytes(24).toString('base64url')}`
  const auth = mediaAuthServer(media.authority, sessions, secretPath, log)
  if (binary === null) return { auth, process: null, endLeftover: async () => false }

  const configFile = join(settings.dataDir, 'mediamtx.json')
  const pidFile = join(settings.dataDir, 'mediamtx.pid')
  const process = new MediaMtxProcess({
    binary,
    configFile,
    pidFile,
    log,
    prepare: async () => {
      const authUrl = `http://127.0.0.1:${portOf(auth)}${secretPath}`
      await writeMediaMtxConfig(configFile, mediaMtxConfig(networkOf(settings, hosts, portOf(app)), authUrl))
    },
    onStarted: () => {
      media.breaker.succeeded()
      media.reconciler.reconcile().catch(() => { /* logged by the reconciler, which tries again */ })
    }
  })
  replaceWhenUnresponsive(process, media.reconciler)
  return { auth, process, endLeftover: () => endLeftover(pidFile, binary.path, configFile, log) }
}

function networkOf ({ config, tls }: Settings, { host, scheme }: StreamHosts, pagePort: number): MediaMtxNetwork {
  const { server, mediamtx } = config
  return {
    host: server.host,
    rtspPort: mediamtx.rtsp_port,
    hlsPort: mediamtx.hls_port,
    webrtcPort: mediamtx.webrtc_port,
    webrtcUdpPort: mediamtx.webrtc_udp_port,
    apiPort: mediamtx.api_port,
    metricsPort: mediamtx.metrics_port,
    playbackPort: mediamtx.playback_port,
    webrtcHosts: [host],
    tls,
    allowedOrigins: [...pageOrigins(scheme, pagePort, server.host, host), ...server.allowed_origins]
  }
}

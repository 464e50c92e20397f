import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import type { Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { loggerOptions } from '@marty/audit'
import { answerWithProblems, problemServerOptions, useGuard } from '@marty/core'
import { headers } from '@marty/headers'
import { health } from '@marty/health'
import { jsonRpc } from '@marty/json-rpc'
import { explainMethod } from '@marty/rbac'
import { openRedis, type RedisConnection } from '@marty/redis'
import { security } from '@marty/security'
import Fastify, { LogController, type FastifyInstance } from 'fastify'
import { advertisedHost, localHost, mediaOrigins, pageOrigins } from './settings/addresses.js'
import { createEvents } from './api/events.js'
import { cameraMethods } from './api/methods/cameras.js'
import { libraryMethods } from './api/methods/library.js'
import { mediaMethods } from './api/methods/media.js'
import { systemMethods } from './api/methods/system.js'
import type { ApiParts } from './api/parts.js'
import { fileRoutes } from './api/routes/files.js'
import { mediaAuthServer } from './api/routes/media-auth.js'
import { pageRoutes } from './api/routes/page.js'
import { cameraView } from './api/view.js'
import type { Camera } from './cameras/camera.js'
import { configuredRtsp } from './cameras/discovery/rtsp.js'
import { testPattern } from './cameras/discovery/test-pattern.js'
import { v4l2Cameras } from './cameras/discovery/v4l2/cameras.js'
import { createPublishers } from './cameras/publishers.js'
import { createRegistry } from './cameras/registry.js'
import { healthProbes } from './health.js'
import { openLibrary } from './library/library.js'
import { useStorage } from './library/storage.js'
import { createBreaker } from './mediamtx/breaker.js'
import { createMediaMtxClient } from './mediamtx/client.js'
import { isLoopback, mediaMtxConfig, writeMediaMtxConfig } from './mediamtx/config-file.js'
import { pathOf } from './mediamtx/path-spec.js'
import { createMediaSessions } from './mediamtx/media-sessions.js'
import { endLeftover, findMediaMtx, superviseMediaMtx } from './mediamtx/process.js'
import { createReconciler } from './mediamtx/reconciler.js'
import { createStreamAuthority } from './mediamtx/stream-auth.js'
import { streamUrls, type StreamHosts } from './mediamtx/stream-urls.js'
import { useFfmpeg } from './media/ffmpeg.js'
import { createRecorder } from './media/recording.js'
import { takeSnapshot } from './media/snapshot.js'
import { portsOf, waitForPorts } from './settings/ports.js'
import { shipped, type Settings } from './settings/settings.js'
import { loadSecrets } from './settings/secrets.js'
import { cutStalledReaders, slowClientOptions } from './slow-clients.js'
import { TlsListener } from './tls/tls-listener.js'
import { securityOptions, version } from './settings/security-options.js'

/** Events of the auth plugin that revoke the principal's stream grants and end its media sessions. */
const SIGN_OUTS: ReadonlySet<string> = new Set(['session.revoke', 'session.revoke_all', 'token.revoke'])

/** A running camera service. */
export interface CameraService {
  readonly app: FastifyInstance
  /** URLs of the page, the JSON-RPC API and the health report. */
  readonly addresses: { readonly page: string, readonly rpc: string, readonly health: string }
  /** Problems that do not prevent the service from running, as sentences for an operator. */
  readonly warnings: readonly string[]
  /**
   * Reloads the certificate and its key. Open connections stay. If the new files cannot be used, the reason is logged
   * and the old certificate stays in use.
   */
  reloadCertificate (): void
  close (): Promise<void>
}

/** Thrown when required ports are in use. Each problem names the port and its setting. */
export class PortsBusy extends Error {
  readonly problems: readonly string[]
  constructor (problems: readonly string[]) {
    super(problems.join('\n'))
    this.problems = problems
  }
}

/** Lifetime of a publish key. It is short because ffmpeg connects right after its start. */
const PUBLISH_KEY_MS = 30_000
/** A running MediaMTX that does not respond for this long is replaced. */
const MUTE_MS = 10_000
/** Lifetime of the key with which this service reads a stream for a snapshot. */
const OWN_READ_MS = 20_000

/** The composition root: creates every module, connects them to each other, and starts the servers. */
export async function startCameraService (settings: Settings): Promise<CameraService> {
  const { config, dataDir } = settings
  const { server, mediamtx } = config
  const warnings: string[] = []
  await mkdir(dataDir, { recursive: true, mode: 0o700 })

  const publicHost = advertisedHost(server.host, server.public_host)
  const tls = settings.tls === null ? null : new TlsListener(settings.tls, publicHost)
  warnings.push(...tls?.warnings ?? [])
  const scheme = tls === null ? 'http' : 'https'
  if (tls === null && !isLoopback(server.host)) {
    warnings.push(
      `server.host ${server.host} opens every port to the network without TLS: tokens and pictures can be read on ` +
        'the way. Set security.ssl.enabled.'
    )
  }
  const secrets = await loadSecrets(dataDir, config.security.jwt.secret_key)
  const redis: RedisConnection | null = config.redis.url === '' ? null : openRedis({ url: config.redis.url })

  const stalledMs = server.stalled_client_seconds * 1000
  const slow = slowClientOptions(stalledMs)
  const app = Fastify({
    ...problemServerOptions,
    // The terminal may be closed while the service shuts down. Errors of process.stdout are caught (see server.ts);
    // errors of pino's own stream would not be.
    logger: {
      level: config.logging.level,
      ...loggerOptions(),
      ...(process.stdout.isTTY ? { stream: process.stdout } : {})
    },
    ...(tls === null ? { http: slow.server } : { https: { ...tls.options, ...slow.server } }),
    ...slow.fastify,
    trustProxy: [...server.trust_proxy],
    bodyLimit: 64 * 1024,
    forceCloseConnections: true,
    logController: new LogController({ disableRequestLogging: true })
  }) as unknown as FastifyInstance
  cutStalledReaders(app, stalledMs)
  const log = app.log
  tls?.attach(app.server as Server, config.security.ssl.handshakes_per_minute, log)

  // Storage and tools
  const library = openLibrary(join(dataDir, 'library.sqlite'))
  const storage = useStorage(settings.recordings, config.storage.warn_percent, config.storage.block_percent)
  const tools = useFfmpeg(config.ffmpeg.ffmpeg, config.ffmpeg.ffprobe)
  if ((await tools.version()) === null) {
    warnings.push(
      'ffmpeg cannot be run: install it (Debian, Ubuntu: apt-get install ffmpeg). Until then local cameras, ' +
        'snapshots and the test pattern do not work.'
    )
  }

  // The media server
  const authority = createStreamAuthority()
  const mtxHost = localHost(server.host)
  const client = createMediaMtxClient({
    baseUrl: `http://127.0.0.1:${mediamtx.api_port}`,
    secret: authority.controllerSecret
  })
  const breaker = createBreaker()
  const found = await findMediaMtx(settings.mediamtxBinary, settings.searchPath, shipped.mediamtx)
  const missing = 'MediaMTX was not found: run "npm run setup", or set mediamtx.binary or ' +
    `MEDIAMTX_BIN${found.tried.length === 0 ? '' : ` (${found.tried.join('; ')})`}`
  if (found.binary === null) warnings.push(`${missing}. Until then nothing plays.`)

  const reconciler = createReconciler({
    client,
    breaker,
    log,
    desired: () => cameras.list().map(camera => ({
      name: pathOf(camera.id),
      source: camera.source.kind === 'rtsp' ? camera.source.url : null,
      record: recorder.spec(camera.id)
    })),
    onRestarted: () => { publishers.restartAll() },
    onObserved: (paths, rejected) => {
      publishers.observe(paths)
      recorder.observe(paths)
      sessions.observe(paths)
      replaceIfMute(paths !== null)
      for (const camera of cameras.list()) {
        if (camera.source.kind !== 'rtsp') continue
        if (rejected.has(camera.id)) {
          cameras.report(camera.id, 'ERROR', 'the media server refuses the URL of this camera')
        } else if (paths?.get(camera.id)?.available === true) cameras.report(camera.id, 'CONNECTED', '')
        else if (paths !== null) cameras.report(camera.id, 'DISCONNECTED', 'the camera cannot be reached')
      }
    }
  })

  const recorder = createRecorder({
    library,
    storage,
    tools,
    folder: settings.recordings,
    log,
    apply: () => reconciler.poke(),
    onEvent: event => { events.recordingStatus(event) }
  })

  const publishers = createPublishers({
    ffmpeg: config.ffmpeg.ffmpeg,
    log,
    target: camera =>
      `rtsp://publisher:${authority.grantPublish(pathOf(camera.id), PUBLISH_KEY_MS).token}@${mtxHost}:${mediamtx.rtsp_port}/${pathOf(camera.id)}`,
    ready: camera => reconciler.observed()?.has(camera.id) === true,
    onFlowing: camera => {
      authority.endPublish(pathOf(camera.id))
    },
    report: (id, status, detail) => {
      cameras.report(id, status, detail)
    }
  })

  // Cameras
  const others = [
    ...(config.cameras.v4l2
      ? [
          v4l2Cameras((node, reason) => {
            log.warn({ node, reason }, 'a video device is left out')
          })
        ]
      : []),
    ...(config.cameras.network.length > 0 ? [configuredRtsp(config.cameras.network)] : [])
  ]
  const patternWanted =
    config.cameras.test_pattern === 'always' ||
    (config.cameras.test_pattern === 'auto' && config.environment === 'development')
  const cameras = createRegistry({
    discoveries: [
      ...others,
      ...(patternWanted
        ? [
            testPattern(config.cameras.test_pattern === 'always' ? 'always' : 'auto', () =>
              cameras.list().some(camera => camera.source.kind !== 'test-pattern')
            )
          ]
        : [])
    ],
    identify: key => library.identify(key),
    log,
    intervalMs: config.cameras.poll_interval_seconds * 1000,
    onChange: camera => {
      publishers.follow(camera)
      events.cameraStatus(viewOf(camera))
      reconciler.poke().catch(() => {
        /* logged by the reconciler, which tries again at its next pass */
      })
    }
  })

  // The API
  const hosts: StreamHosts = {
    host: publicHost,
    scheme,
    rtspPort: mediamtx.rtsp_port,
    hlsPort: mediamtx.hls_port,
    webrtcPort: mediamtx.webrtc_port
  }
  const viewOf = (camera: Camera) => {
    const { id } = camera
    return cameraView(camera, reconciler.observed()?.get(id), streamUrls(hosts, id, null), recorder.status(id))
  }

  await app.register(security, securityOptions(settings, secrets, redis))
  await app.register(jsonRpc, {
    path: server.websocket_path,
    httpPath: '/rpc',
    maxConnections: server.max_connections,
    maxConnectionsPerAddress: server.max_connections_per_address,
    allowedOrigins: server.allowed_origins,
    sameOrigin: true,
    // The limits apply to each call inside the connection. The connection itself is not limited, so that a caller with
    // a token can still connect from an address that has used up its anonymous calls.
    transportSecurity: { public: true, limits: false },
    authenticationTimeoutMs: server.authentication_timeout_seconds * 1000,
    describePrincipal: async principal => {
      // Without a session the caller is still signed in, but must send the credential again after a reload.
      const session =
        principal.authenticatedBy === 'session'
          ? null
          : await app.auth.sessions?.create(principal).catch((error: unknown) => {
            log.warn({ err: error }, 'no session could be made')
            return null
          })
      return {
        authenticated: true,
        role: principal.roles[0] ?? null,
        roles: principal.roles,
        permissions: app.rbac.permissionsOf(principal),
        expires_at: principal.expiresAt === null ? null : new Date(principal.expiresAt).toISOString(),
        session_id: session?.id ?? null
      }
    }
  })
  const events = createEvents(app)
  const sessions = createMediaSessions({
    client,
    log,
    mayWatch: async principal => await app.guard.isAlive(principal, true) && app.can(principal, 'stream:view'),
    holders: () => authority.holders(),
    onEnded: principal => { authority.revokeReads(holder => holder === principal) }
  })
  // A sign-out revokes the principal's stream URLs and ends the media sessions that were started with them.
  app.guard.addSink(event => {
    if (!SIGN_OUTS.has(event.action)) return
    authority.revokeReads(({ id }) => id === event.principal.id)
    sessions.endAll(event.principal.id)
  })
  const parts: ApiParts = {
    cameras,
    library,
    recorder,
    authority,
    hosts,
    streamTokenMs: mediamtx.stream_token_seconds * 1000,
    maxRecordingSeconds: config.recording.max_duration_seconds,
    observed: () => reconciler.observed(),
    versions: async () => ({
      service: version,
      node: process.version,
      mediamtx: found.binary?.version ?? null,
      ffmpeg: await tools.version()
    }),
    snapshot: async (camera, format, quality) => {
      const { token } = authority.grantRead(pathOf(camera), null, OWN_READ_MS)
      try {
        return await takeSnapshot(
          { tools, library, storage, folder: settings.snapshots, timeoutMs: config.snapshots.timeout_seconds * 1000 },
          { camera, format, quality, streamUrl: streamUrls({ ...hosts, host: mtxHost }, camera, token).rtsp }
        )
      } finally {
        authority.endRead(token)
      }
    }
  }
  cameraMethods(app, parts)
  mediaMethods(app, parts)
  libraryMethods(app, parts)
  systemMethods(app, parts)
  app.rpc.method(explainMethod(app.rbac))
  fileRoutes(app, library)
  pageRoutes(app, shipped.web, mediaOrigins(scheme, [mediamtx.webrtc_port, mediamtx.hls_port], server.host, hosts.host))

  // Health, on a separate port
  const healthApp = Fastify({
    ...problemServerOptions,
    logger: false,
    ...slow.fastify,
    http: slow.server,
    forceCloseConnections: true
  })
  cutStalledReaders(healthApp, stalledMs)
  useGuard(healthApp, { strict: true })
  answerWithProblems(healthApp)
  await healthApp.register(headers, { environment: config.environment })
  const probes = healthProbes({
    observed: () => reconciler.observed(),
    cameras,
    storage,
    library,
    ffmpeg: tools,
    redis,
    mediamtx: { found: found.binary !== null, restarts: () => supervisor?.restarts ?? 0 },
    tls,
    policy: () => app.rbac.status,
    connections: () => ({ count: app.rpc.connections().length, max: server.max_connections })
  })
  await healthApp.register(health, {
    components: probes,
    ready: config.health.ready_requires,
    groups: { system: Object.keys(probes), cameras: ['cameras'], mediamtx: ['mediamtx'] }
  })

  // Servers and processes: from here on, a failed step must close what earlier steps have opened.
  const secretPath = `/${randomBytes(24).toString('base64url')}`
  const mediaAuth = mediaAuthServer(authority, sessions, secretPath, log)
  const configFile = join(dataDir, 'mediamtx.json')
  const pidFile = join(dataDir, 'mediamtx.pid')
  const supervisor =
    found.binary === null
      ? null
      : superviseMediaMtx({
        binary: found.binary,
        configFile,
        prepare: () => writeMediaMtxConfig(configFile, mediaConfig()),
        pidFile,
        log,
        onStarted: () => {
          breaker.reset()
          reconciler.poke().catch(() => {})
        }
      })

  const mediaConfig = () => mediaMtxConfig({
    host: server.host,
    rtspPort: mediamtx.rtsp_port,
    hlsPort: mediamtx.hls_port,
    webrtcPort: mediamtx.webrtc_port,
    webrtcUdpPort: mediamtx.webrtc_udp_port,
    apiPort: mediamtx.api_port,
    metricsPort: mediamtx.metrics_port,
    playbackPort: mediamtx.playback_port,
    webrtcHosts: [hosts.host],
    tls: settings.tls,
    allowedOrigins: [...pageOrigins(scheme, portOf(app), server.host, hosts.host), ...server.allowed_origins]
  }, `http://127.0.0.1:${portOf(mediaAuth)}${secretPath}`)
  let heardAt = performance.now()
  /** Ends a MediaMTX process that runs but does not respond (it hangs). Its supervisor then starts a new one. */
  function replaceIfMute (heard: boolean): void {
    const now = performance.now()
    if (heard || supervisor?.pid == null) heardAt = now
    if (now - heardAt < MUTE_MS) return
    heardAt = now
    supervisor?.replace()
  }

  const close = once(async () => {
    healthApp.health.drain()
    await Promise.allSettled([app.close(), cameras.stop()])
    await Promise.allSettled([recorder.close(), publishers.stop()])
    sessions.stop()
    await reconciler.stop()
    await supervisor?.stop()
    await Promise.allSettled([mediaAuth.close(), healthApp.close(), redis?.close()])
    library.close()
  })

  try {
    await app.ready()
    const leaving = found.binary !== null && await endLeftover(pidFile, found.binary.path, configFile, log)
    const busy = await waitForPorts(portsOf(config), leaving ? 5000 : 0)
    if (busy.length > 0) throw new PortsBusy(busy)

    await mediaAuth.listen({ host: '127.0.0.1', port: mediamtx.auth_port })
    await app.listen({ host: server.host, port: server.port })
    await healthApp.listen({ host: server.host, port: config.health.port })

    await recorder.recover()
    if (supervisor !== null) {
      await supervisor.start()
      reconciler.start()
      sessions.start()
    }
    await cameras.start()
    const advertised = hosts.host.includes(':') ? `[${hosts.host}]` : hosts.host
    return {
      app,
      warnings,
      addresses: {
        page: `${scheme}://${advertised}:${portOf(app)}/`,
        rpc: `${scheme === 'http' ? 'ws' : 'wss'}://${advertised}:${portOf(app)}${server.websocket_path}`,
        health: `http://${advertised}:${portOf(healthApp)}/health/system`
      },
      reloadCertificate: () => { tls?.reload() },
      close
    }
  } catch (error) {
    await close()
    throw error
  }
}

function portOf (app: FastifyInstance): number {
  return (app.server.address() as AddressInfo).port
}

function once (action: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined
  return () => {
    done ??= action()
    return done
  }
}

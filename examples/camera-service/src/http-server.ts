import type { Server } from 'node:https'
import { loggerOptions } from '@marty/audit'
import { problemServerOptions, type Principal } from '@marty/core'
import { jsonRpc, type JsonRpcOptions } from '@marty/json-rpc'
import { explainMethod } from '@marty/rbac'
import type { RedisConnection } from '@marty/redis'
import { security } from '@marty/security'
import Fastify, { LogController, type FastifyInstance } from 'fastify'
import { createEvents } from './api/events.js'
import { cameraMethods } from './api/methods/cameras.js'
import { libraryMethods } from './api/methods/library.js'
import { mediaMethods } from './api/methods/media.js'
import { systemMethods } from './api/methods/system.js'
import type { ApiParts, Versions } from './api/parts.js'
import { fileRoutes } from './api/routes/files.js'
import { pageRoutes } from './api/routes/page.js'
import { cameraView } from './api/view.js'
import type { Library } from './library/library.js'
import type { Storage } from './library/storage.js'
import type { Ffmpeg } from './media/ffmpeg.js'
import { cameraReadings } from './media/readings.js'
import { takeSnapshot } from './media/snapshot.js'
import type { MediaPlane } from './media-plane.js'
import type { MediaMtxSearch } from './mediamtx/binary.js'
import { MediaSessions } from './mediamtx/media-sessions.js'
import { pathOf } from './mediamtx/path-spec.js'
import { streamUrls, type StreamHosts } from './mediamtx/stream-urls.js'
import { localHost, mediaOrigins } from './settings/addresses.js'
import type { Secrets } from './settings/secrets.js'
import { securityOptions } from './settings/security-options.js'
import { shipped, type Settings } from './settings/settings.js'
import { version } from './settings/version.js'
import { cutStalledReaders, slowClientOptions } from './slow-clients.js'
import type { TlsListener } from './tls/tls-listener.js'

export interface ApiOptions {
  readonly settings: Settings
  readonly secrets: Secrets
  readonly redis: RedisConnection | null
  readonly hosts: StreamHosts
  readonly library: Library
  readonly storage: Storage
  readonly tools: Ffmpeg
  readonly media: MediaPlane
  readonly search: MediaMtxSearch
}

/** Events of the auth plugin after which the principal's stream grants are revoked and its media sessions end. */
const SIGN_OUTS: ReadonlySet<string> = new Set(['session.revoke', 'session.revoke_all', 'token.revoke'])
/** Lifetime of the key with which this service reads a stream for a snapshot. */
const OWN_READ_MS = 20_000

/** The server of the page, the JSON-RPC API and the files, still without routes. The whole service uses its logger. */
export function createHttpServer ({ config }: Settings, tls: TlsListener | null): FastifyInstance {
  const stalledMs = config.server.stalled_client_seconds * 1000
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
    trustProxy: [...config.server.trust_proxy],
    bodyLimit: 64 * 1024,
    // On a small board that starts its cameras too, Fastify's 10 s for a plugin are not always enough.
    pluginTimeout: 60_000,
    forceCloseConnections: true,
    logController: new LogController({ disableRequestLogging: true })
  }) as unknown as FastifyInstance
  cutStalledReaders(app, stalledMs)
  tls?.attach(app.server as Server, config.security.ssl.handshakes_per_minute, app.log)
  return app
}

/**
 * Registers everything that clients can reach. Returns the readers' sessions at the media server, which end when the
 * reader may no longer watch.
 */
export async function registerApi (app: FastifyInstance, options: ApiOptions): Promise<MediaSessions> {
  const { settings, secrets, redis, hosts, library, media } = options
  const { server, mediamtx, recording } = settings.config
  await app.register(security, securityOptions(settings, secrets, redis))
  await app.register(jsonRpc, rpcOptions(app, settings))

  const parts: ApiParts = {
    cameras: media.cameras,
    library,
    recorder: media.recorder,
    authority: media.authority,
    hosts,
    streamTokenMs: mediamtx.stream_token_seconds * 1000,
    maxRecordingSeconds: recording.max_duration_seconds,
    activePaths: () => media.reconciler.paths,
    versions: () => versionsOf(options),
    snapshot: snapshotTaker(options)
  }
  cameraMethods(app, parts)
  mediaMethods(app, parts)
  libraryMethods(app, parts)
  systemMethods(app, parts)
  app.rpc.method(explainMethod(app.rbac))
  app.guard.addMetrics(() => cameraReadings(media.cameras, media.recorder))
  fileRoutes(app, library)
  pageRoutes(app, shipped.web, mediaOrigins(hosts.scheme, [hosts.webrtcPort, hosts.hlsPort], server.host, hosts.host))

  const events = createEvents(app)
  media.cameras.on('change', camera => { events.cameraStatus(cameraView(parts, camera)) })
  media.recorder.on('change', event => { events.recordingStatus(event) })
  return followSessions(app, media)
}

function rpcOptions (app: FastifyInstance, { config: { server } }: Settings): JsonRpcOptions {
  return {
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
    describePrincipal: principal => describePrincipal(app, principal)
  }
}

/** The result of `authenticate`. */
async function describePrincipal (app: FastifyInstance, principal: Principal): Promise<Record<string, unknown>> {
  return {
    authenticated: true,
    role: principal.roles[0] ?? null,
    roles: principal.roles,
    permissions: app.rbac.permissionsOf(principal),
    expires_at: principal.expiresAt === null ? null : new Date(principal.expiresAt).toISOString(),
    session_id: await createSession(app, principal)
  }
}

/**
 * Returns the id of a new session, or null for a caller that has one. Without a session the caller is still signed in,
 * but must send the credential again after a reload.
 */
async function createSession (app: FastifyInstance, principal: Principal): Promise<string | null> {
  if (principal.authenticatedBy === 'session') return null
  try {
    return (await app.auth.sessions?.create(principal))?.id ?? null
  } catch (error) {
    app.log.warn({ err: error }, 'a session could not be created')
    return null
  }
}

async function versionsOf ({ search, tools }: ApiOptions): Promise<Versions> {
  const { binary } = search
  return { service: version, node: process.version, mediamtx: binary?.version ?? null, ffmpeg: await tools.version() }
}

/** Returns a function that reads the stream of a camera like any viewer, with a grant of its own. */
function snapshotTaker ({ settings, hosts, library, storage, tools, media }: ApiOptions): ApiParts['snapshot'] {
  const { config, snapshots: folder } = settings
  const timeoutMs = config.snapshots.timeout_seconds * 1000
  const ownHosts = { ...hosts, host: localHost(config.server.host) }
  return async (camera, format, quality) => {
    const { token } = media.authority.grantRead(pathOf(camera), null, OWN_READ_MS)
    try {
      return await takeSnapshot(
        { tools, library, storage, folder, timeoutMs },
        { camera, format, quality, streamUrl: streamUrls(ownHosts, camera, token).rtsp }
      )
    } finally {
      media.authority.revokeRead(token)
    }
  }
}

function followSessions (app: FastifyInstance, { authority, client, reconciler }: MediaPlane): MediaSessions {
  const sessions = new MediaSessions({
    client,
    log: app.log,
    mayWatch: async principal => await app.guard.isAlive(principal, true) && app.can(principal, 'stream:view'),
    holders: () => authority.holders(),
    onEnded: principal => { authority.revokeReads(holder => holder === principal) }
  })
  reconciler.on('observed', paths => { sessions.observe(paths) })
  // A sign-out revokes the principal's stream URLs and ends the media sessions that were started with them.
  app.guard.addSink(event => {
    if (!SIGN_OUTS.has(event.action)) return
    authority.revokeReads(({ id }) => id === event.principal.id)
    sessions.endAll(event.principal.id)
  })
  return sessions
}

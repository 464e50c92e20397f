import type { Probe, ProbeResult } from '@marty/health'
import type { PolicyStatus } from '@marty/rbac'
import type { RedisConnection } from '@marty/redis'
import type { FastifyInstance } from 'fastify'
import type { CameraRegistry } from './cameras/registry.js'
import type { Library } from './library/library.js'
import type { Storage } from './library/storage.js'
import type { Ffmpeg } from './media/ffmpeg.js'
import type { MediaPlane } from './media-plane.js'
import type { MediaMtxProcess } from './mediamtx/process.js'
import type { ActivePaths } from './mediamtx/reconciler.js'
import type { Settings } from './settings/settings.js'
import type { TlsListener } from './tls/tls-listener.js'

export interface HealthSources {
  readonly media: MediaPlane
  readonly storage: Storage
  readonly library: Library
  readonly tools: Ffmpeg
  /** Null when MediaMTX was not found. */
  readonly mediaMtx: MediaMtxProcess | null
  /** Null when limits are kept in memory. */
  readonly redis: RedisConnection | null
  /** Null when TLS is off. */
  readonly tls: TlsListener | null
  readonly settings: Settings
}

const MEDIAMTX_MISSING = 'MediaMTX was not found: run "npm run setup", or set mediamtx.binary or MEDIAMTX_BIN; ' +
  'the output of the service says which programs were tried'
const BYTES_PER_GIB = 2 ** 30

/**
 * The components of the health report. Each is measured at the time of the request. Anyone can read the report, so it
 * contains no versions and no paths.
 */
export function healthProbes (app: FastifyInstance, sources: HealthSources): Record<string, Probe> {
  const { media, storage, library, tools, mediaMtx, redis, tls, settings } = sources
  return {
    ...(redis === null ? {} : { redis: async () => redisHealth(redis) }),
    ...(tls === null ? {} : { tls: async () => tls.measure() }),
    mediamtx: async () => mediaMtxHealth(mediaMtx, media.reconciler.paths),
    cameras: async () => camerasHealth(media.cameras),
    storage: () => storageHealth(storage),
    library: async () => libraryHealth(library),
    ffmpeg: () => ffmpegHealth(tools),
    policy: async () => policyHealth(app.rbac.status),
    websocket: async () => clientsHealth(app.rpc.connections().length, settings.config.server.max_connections)
  }
}

function mediaMtxHealth (process: MediaMtxProcess | null, paths: ActivePaths): ProbeResult {
  if (process === null) return { status: 'unhealthy', details: MEDIAMTX_MISSING }
  if (paths === null) return { status: 'unhealthy', details: 'MediaMTX does not respond; it is being restarted' }
  const online = [...paths.values()].filter(path => path.available).length
  return { status: 'healthy', details: `${online} of ${paths.size} streams online, ${process.restarts} restarts` }
}

function camerasHealth (registry: CameraRegistry): ProbeResult {
  const cameras = registry.list()
  if (cameras.length === 0) return { status: 'degraded', details: 'no camera has been found' }
  const failing = cameras
    .filter(camera => camera.status !== 'CONNECTED')
    .map(({ id, status, detail }) => `${id} ${status}${detail === '' ? '' : ` (${detail})`}`)
  const summary = `${cameras.length - failing.length} of ${cameras.length} connected`
  return failing.length === 0
    ? { status: 'healthy', details: summary }
    : { status: 'degraded', details: `${summary}: ${failing.join(', ')}` }
}

async function storageHealth (storage: Storage): Promise<ProbeResult> {
  const { availableBytes, usedPercent } = await storage.measure()
  const details = `${usedPercent.toFixed(1)} % used, ${(availableBytes / BYTES_PER_GIB).toFixed(1)} GiB available`
  if (usedPercent >= storage.blockPercent) return { status: 'unhealthy', details }
  return { status: usedPercent >= storage.warnPercent ? 'degraded' : 'healthy', details }
}

function libraryHealth (library: Library): ProbeResult {
  const startedAt = performance.now()
  const { total } = library.listFiles('recording', 1, 0)
  const took = (performance.now() - startedAt).toFixed(1)
  return { status: 'healthy', details: `${total} recordings listed in ${took} ms` }
}

async function ffmpegHealth (tools: Ffmpeg): Promise<ProbeResult> {
  return await tools.version() === null
    ? { status: 'unhealthy', details: 'ffmpeg cannot be run: install it (Debian, Ubuntu: apt-get install ffmpeg)' }
    : { status: 'healthy', details: 'ffmpeg can be run' }
}

/** The problems go to the log only, because they reveal details of the policy. */
function policyHealth ({ generation, loadedAt, stale, problems }: PolicyStatus): ProbeResult {
  if (!stale) return { status: 'healthy', details: `generation ${generation}, of ${loadedAt}` }
  const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`
  return {
    status: 'degraded',
    details: `stale: the policy of ${loadedAt} stays in use, because the new one has ${count}; see the log`
  }
}

/** Never unhealthy: without Redis, each process still enforces the limits, but less exactly. */
function redisHealth (redis: RedisConnection): ProbeResult {
  const { status, details } = redis.health()
  return status === 'healthy'
    ? { status, details: `Redis ${details.mode}, ${details.reconnects} reconnects` }
    : { status: 'degraded', details: `Redis is ${details.state}: each instance enforces the limits on its own` }
}

function clientsHealth (count: number, max: number): ProbeResult {
  return { status: count >= max ? 'degraded' : 'healthy', details: `${count} of ${max} clients` }
}

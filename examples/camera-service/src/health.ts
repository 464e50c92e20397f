import type { PolicyStatus } from '@marty/rbac'
import type { RedisConnection } from '@marty/redis'
import type { Library } from './library/library.js'
import type { Storage } from './library/storage.js'
import type { CameraRegistry } from './cameras/registry.js'
import type { Ffmpeg } from './media/ffmpeg.js'
import type { RuntimePath } from './mediamtx/client.js'
import type { TlsListener } from './tls/tls-listener.js'

/** The measured state of one component. */
export interface Measurement { readonly status: 'healthy' | 'degraded' | 'unhealthy', readonly details: string }

export interface HealthSources {
  readonly observed: () => ReadonlyMap<string, RuntimePath> | null
  readonly cameras: CameraRegistry
  readonly storage: Storage
  readonly library: Library
  readonly ffmpeg: Ffmpeg
  readonly mediamtx: { readonly found: boolean, readonly restarts: () => number }
  /** Null when limits are kept in memory. */
  readonly redis: RedisConnection | null
  /** Null when TLS is off. */
  readonly tls: TlsListener | null
  readonly policy: () => PolicyStatus
  readonly connections: () => { readonly count: number, readonly max: number }
}

const MISSING = 'MediaMTX was not found: run "npm run setup", or set mediamtx.binary or MEDIAMTX_BIN; ' +
  'the output of the service says what was tried'

/**
 * The components of the health report. Each is measured at the time of the request. Anyone can read the report, so it
 * contains no versions and no paths.
 */
export function healthProbes (sources: HealthSources): Record<string, () => Promise<Measurement>> {
  const { redis, tls } = sources
  return {
    ...(redis === null ? {} : { redis: async () => redisProbe(redis) }),
    ...(tls === null ? {} : { tls: async () => tls.measure() }),
    async mediamtx () {
      const { found, restarts } = sources.mediamtx
      if (!found) return { status: 'unhealthy', details: MISSING }
      const paths = sources.observed()
      if (paths === null) return { status: 'unhealthy', details: 'MediaMTX does not answer; it is being started again' }
      const online = [...paths.values()].filter(path => path.available).length
      return { status: 'healthy', details: `${online} of ${paths.size} streams online, ${restarts()} restarts` }
    },
    async cameras () {
      const cameras = sources.cameras.list()
      const connected = cameras.filter(camera => camera.status === 'CONNECTED').length
      const wrong = cameras
        .filter(camera => camera.status !== 'CONNECTED')
        .map(camera => `${camera.id} ${camera.status}${camera.detail === '' ? '' : ` (${camera.detail})`}`)
      return {
        status: cameras.length === 0 || wrong.length > 0 ? 'degraded' : 'healthy',
        details:
          cameras.length === 0
            ? 'no camera has been found'
            : `${connected} of ${cameras.length} connected${wrong.length === 0 ? '' : `: ${wrong.join(', ')}`}`
      }
    },
    async storage () {
      const { availableBytes, usedPercent } = await sources.storage.measure()
      const { warnPercent, blockPercent } = sources.storage
      return {
        status: usedPercent >= blockPercent ? 'unhealthy' : usedPercent >= warnPercent ? 'degraded' : 'healthy',
        details: `${usedPercent.toFixed(1)} % used, ${(availableBytes / 2 ** 30).toFixed(1)} GiB available`
      }
    },
    async library () {
      const started = performance.now()
      const { total } = sources.library.listFiles('recording', 1, 0)
      return {
        status: 'healthy',
        details: `${total} recordings listed in ${(performance.now() - started).toFixed(1)} ms`
      }
    },
    async ffmpeg () {
      return await sources.ffmpeg.version() === null
        ? { status: 'unhealthy', details: 'ffmpeg cannot be run: install it (Debian, Ubuntu: apt-get install ffmpeg)' }
        : { status: 'healthy', details: 'ffmpeg can be run' }
    },
    async policy () {
      const { generation, loadedAt, stale, problems } = sources.policy()
      // The problems go to the log only, because they reveal details of the policy.
      return stale
        ? {
            status: 'degraded',
            details: `stale: the policy of ${loadedAt} stays in use; the log tells ` +
              `${problems.length === 1 ? 'the problem' : `the ${problems.length} problems`} of what should follow`
          }
        : { status: 'healthy', details: `generation ${generation}, of ${loadedAt}` }
    },
    async websocket () {
      const { count, max } = sources.connections()
      return { status: count >= max ? 'degraded' : 'healthy', details: `${count} of ${max} clients` }
    }
  }
}

/** Never unhealthy: without Redis, each process still enforces the limits, but less exactly. */
function redisProbe (redis: RedisConnection): Measurement {
  const { status, details } = redis.health()
  return status === 'healthy'
    ? { status, details: `Redis ${details.mode}, ${details.reconnects} reconnects` }
    : { status: 'degraded', details: `Redis is ${details.state}: limits are kept by each instance for itself` }
}

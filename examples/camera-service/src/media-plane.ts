import { CircuitBreaker } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { Discovery } from './cameras/camera.js'
import { configuredRtsp } from './cameras/discovery/rtsp.js'
import { testPattern } from './cameras/discovery/test-pattern.js'
import { v4l2Cameras } from './cameras/discovery/v4l2/cameras.js'
import { Publishers } from './cameras/publishers.js'
import { CameraRegistry } from './cameras/registry.js'
import type { Library } from './library/library.js'
import type { Storage } from './library/storage.js'
import type { Ffmpeg } from './media/ffmpeg.js'
import { Recorder } from './media/recorder.js'
import { createMediaMtxClient, type MediaMtxClient } from './mediamtx/client.js'
import { pathOf, type PathSpec } from './mediamtx/path-spec.js'
import { Reconciler, type ActivePaths } from './mediamtx/reconciler.js'
import { RecordingPlan } from './mediamtx/recording-plan.js'
import { StreamAuthority } from './mediamtx/stream-auth.js'
import { localHost } from './settings/addresses.js'
import type { Settings } from './settings/settings.js'

/** The cameras, and what keeps MediaMTX, ffmpeg and the recordings in step with them. */
export interface MediaPlane {
  readonly authority: StreamAuthority
  readonly client: MediaMtxClient
  /** Open while the media server does not respond, so that a reconciliation fails without waiting for a timeout. */
  readonly breaker: CircuitBreaker
  readonly cameras: CameraRegistry
  readonly reconciler: Reconciler
  readonly recorder: Recorder
  readonly publishers: Publishers
}

export interface MediaPlaneOptions {
  readonly settings: Settings
  readonly library: Library
  readonly storage: Storage
  readonly tools: Ffmpeg
  readonly log: FastifyBaseLogger
}

/** Lifetime of a publish key. It is short because ffmpeg connects right after its start. */
const PUBLISH_KEY_MS = 30_000
/** Consecutive failures that open the circuit, and the time until the next attempt. */
const BREAKER = { threshold: 5, resetMs: 1000 }

export function createMediaPlane ({ settings, library, storage, tools, log }: MediaPlaneOptions): MediaPlane {
  const { server, mediamtx, cameras: { poll_interval_seconds: pollSeconds } } = settings.config
  const authority = new StreamAuthority()
  const client = createMediaMtxClient({
    baseUrl: `http://127.0.0.1:${mediamtx.api_port}`,
    secret: authority.controllerSecret
  })
  const breaker = new CircuitBreaker(BREAKER)
  const plan = new RecordingPlan()
  const cameras = new CameraRegistry({
    discoveries: discoveriesOf(settings, log),
    identify: key => library.identify(key),
    log,
    intervalMs: pollSeconds * 1000
  })
  const reconciler = new Reconciler({ client, breaker, log, desired: () => desiredPaths(cameras, plan) })
  const recorder = new Recorder({
    library,
    storage,
    tools,
    folder: settings.recordings,
    log,
    plan,
    apply: () => reconciler.reconcile()
  })
  const rtspAddress = `${localHost(server.host)}:${mediamtx.rtsp_port}`
  const publishers = new Publishers({
    ffmpeg: tools.ffmpeg,
    log,
    target: ({ id }) => {
      const { token } = authority.grantPublish(pathOf(id), PUBLISH_KEY_MS)
      return `rtsp://publisher:${token}@${rtspAddress}/${pathOf(id)}`
    },
    isReady: ({ id }) => reconciler.paths?.has(id) === true,
    onStreaming: ({ id }) => { authority.revokePublish(pathOf(id)) },
    report: (id, status, detail) => { cameras.report(id, status, detail) }
  })

  cameras.on('change', camera => {
    publishers.follow(camera)
    reconciler.reconcile().catch(() => { /* logged by the reconciler, which tries again at its next pass */ })
  })
  reconciler.on('restarted', () => { publishers.restartAll() })
  reconciler.on('observed', (paths, rejected) => {
    publishers.observe(paths)
    recorder.observe(paths)
    reportNetworkCameras(cameras, paths, rejected)
  })
  return { authority, client, breaker, cameras, reconciler, recorder, publishers }
}

/** The test pattern comes last, so that with `auto` it is left out when another discovery has found a camera. */
function discoveriesOf ({ config: { cameras, environment } }: Settings, log: FastifyBaseLogger): Discovery[] {
  const { v4l2, network, test_pattern: pattern } = cameras
  const discoveries: Discovery[] = []
  if (v4l2) {
    discoveries.push(v4l2Cameras((node, reason) => {
      log.warn({ node, reason }, 'a video device cannot be used as a camera')
    }))
  }
  if (network.length > 0) discoveries.push(configuredRtsp(network))
  if (pattern === 'always') discoveries.push(testPattern('always'))
  if (pattern === 'auto' && environment === 'development') discoveries.push(testPattern('auto'))
  return discoveries
}

function desiredPaths (cameras: CameraRegistry, plan: RecordingPlan): PathSpec[] {
  return cameras.list().map(({ id, source }) => ({
    name: pathOf(id),
    source: source.kind === 'rtsp' ? source.url : null,
    record: plan.specOf(id)
  }))
}

/** A network camera is connected when the media server receives its stream. */
function reportNetworkCameras (cameras: CameraRegistry, paths: ActivePaths, rejected: ReadonlySet<string>): void {
  for (const { id, source } of cameras.list()) {
    if (source.kind !== 'rtsp') continue
    if (rejected.has(id)) cameras.report(id, 'ERROR', 'the media server refuses the URL of this camera')
    else if (paths?.get(id)?.available === true) cameras.report(id, 'CONNECTED', '')
    else if (paths !== null) cameras.report(id, 'DISCONNECTED', 'the camera cannot be reached')
  }
}

import type { FastifyBaseLogger } from 'fastify'
import type { Breaker } from './breaker.js'
import type { MediaMtxClient, RuntimePath } from './client.js'
import { MediaMtxRejected, MediaMtxUnavailable } from './errors.js'
import { cameraOf, compare, confOf, recordConfOf, type PathSpec } from './path-spec.js'

export interface ReconcilerOptions {
  readonly client: MediaMtxClient
  readonly breaker: Breaker
  readonly log: FastifyBaseLogger
  /** Returns the desired paths of MediaMTX. Read at every pass, so that the next pass corrects a missed change. */
  readonly desired: () => readonly PathSpec[]
  /** Time between passes, in milliseconds. @default 2000 */
  readonly intervalMs?: number
  /**
   * Called after every pass with the active paths (null when the media server does not respond), and with the cameras
   * whose configuration it refuses.
   */
  readonly onObserved?: (paths: ReadonlyMap<string, RuntimePath> | null, rejected: ReadonlySet<string>) => void
  /** Called when MediaMTX has restarted and lost every path. */
  readonly onRestarted?: () => void
}

/** Repeatedly brings MediaMTX to the desired state. It is the only place that writes path configuration. */
export interface Reconciler {
  start (): void
  /** Requests a pass now. Resolves when a pass that started after this call has succeeded; rejects when it failed. */
  poke (): Promise<void>
  /** The active paths of the last pass, by camera id; null while the media server does not respond. */
  observed (): ReadonlyMap<string, RuntimePath> | null
  stop (): Promise<void>
}

/** Time between passes while the media server does not respond, and while a stream is still missing. */
const AWAY_MS = 250
const INCOMPLETE_MS = 500
/** Consecutive failures before a warning: right after its start, the media server does not respond yet. */
const FAILURES_TO_WARN = 4
/** A path must be unwanted in this many consecutive passes before it is removed as an orphan. */
const ORPHAN_SIGHTINGS = 2

export function createReconciler (options: ReconcilerOptions): Reconciler {
  const { client, breaker, log, desired, intervalMs = 2000 } = options
  let paths: ReadonlyMap<string, RuntimePath> | null = null
  let started: string | null = null
  let timer: NodeJS.Timeout | undefined
  let running: Promise<void> | null = null
  let queued: Promise<void> | null = null
  let stopped = false
  let failures = 0
  const rejected = new Set<string>()
  const orphans = new Map<string, number>()

  async function pass (): Promise<void> {
    const info = await client.info()
    if (started !== null && info.started !== started) {
      log.warn({ version: info.version }, 'MediaMTX has restarted; configuring it again')
      options.onRestarted?.()
    }
    started = info.started
    const actual = new Map((await client.listConfiguredPaths()).map(conf => [conf.name, conf]))
    for (const spec of desired()) {
      const change = compare(spec, actual.get(spec.name))
      if (change === 'none') continue
      await configure(spec, change)
    }
    await removeOrphans([...actual.keys()])
    paths = new Map((await client.listPaths()).flatMap(path => {
      const camera = cameraOf(path.name)
      return camera === null ? [] : [[camera, path] as const]
    }))
  }

  /** Configures one path. A camera that MediaMTX refuses must not prevent the others from being configured. */
  async function configure (spec: PathSpec, change: 'record' | 'replace'): Promise<void> {
    const camera = cameraOf(spec.name) ?? spec.name
    try {
      if (change === 'record') await client.patchPath(spec.name, recordConfOf(spec.record))
      else await client.replacePath(spec.name, confOf(spec))
      rejected.delete(camera)
      log.info({ path: spec.name, change }, 'media path configured')
    } catch (error) {
      if (!(error instanceof MediaMtxRejected)) throw error
      if (!rejected.has(camera)) {
        log.error({ err: error, path: spec.name }, 'MediaMTX refuses the configuration of a camera')
      }
      rejected.add(camera)
    }
  }

  async function removeOrphans (actual: readonly string[]): Promise<void> {
    const wanted = new Set(desired().map(spec => spec.name))
    const foreign = actual.filter(name => cameraOf(name) !== null && !wanted.has(name))
    for (const name of orphans.keys()) if (!foreign.includes(name)) orphans.delete(name)
    for (const name of foreign) {
      const sightings = (orphans.get(name) ?? 0) + 1
      orphans.set(name, sightings)
      if (sightings < ORPHAN_SIGHTINGS) continue
      await client.deletePath(name)
      orphans.delete(name)
      log.info({ path: name }, 'media path removed')
    }
  }

  async function guarded (): Promise<void> {
    try {
      await breaker.run(pass)
      if (failures >= FAILURES_TO_WARN) log.info('MediaMTX answers again')
      failures = 0
    } catch (error) {
      if (error instanceof MediaMtxUnavailable) paths = null
      failures++
      const rejected = !(error instanceof MediaMtxUnavailable)
      if (!stopped && (failures === FAILURES_TO_WARN || (rejected && failures === 1))) {
        log.warn({ err: error }, 'MediaMTX could not be reconciled; trying on')
      }
      throw error
    } finally {
      if (!stopped) options.onObserved?.(paths, rejected)
    }
  }

  function pauseMs (): number {
    if (paths === null) return AWAY_MS
    const complete = desired().every(spec => paths?.get(cameraOf(spec.name) ?? '')?.available === true)
    return complete ? intervalMs : Math.min(INCOMPLETE_MS, intervalMs)
  }

  /** Runs one pass at a time. All calls during a pass share the next one. */
  function enqueue (): Promise<void> {
    if (stopped) return Promise.reject(new MediaMtxUnavailable())
    if (running === null) {
      running = guarded().finally(() => { running = null })
      return running
    }
    queued ??= running.catch(() => {}).then(() => {
      queued = null
      return enqueue()
    })
    return queued
  }

  return {
    start () {
      const tick = (): void => {
        enqueue().catch(() => {}).finally(() => {
          if (!stopped) timer = setTimeout(tick, pauseMs() * (0.8 + Math.random() * 0.4))
        })
      }
      tick()
    },
    poke: enqueue,
    observed: () => paths,
    async stop () {
      stopped = true
      clearTimeout(timer)
      await running?.catch(() => {})
    }
  }
}

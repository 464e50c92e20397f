import { EventEmitter } from 'node:events'
import { SingleFlight, type CircuitBreaker } from '@marty/core'
import type { FastifyBaseLogger } from 'fastify'
import type { MediaMtxClient, RuntimePath } from './client.js'
import { MediaMtxRejected, MediaMtxUnavailable } from './errors.js'
import { cameraOf, compare, confOf, recordConfOf, type PathSpec } from './path-spec.js'

/** The active paths of the media server, by camera id; null while it does not respond. */
export type ActivePaths = ReadonlyMap<string, RuntimePath> | null

export interface ReconcilerOptions {
  readonly client: MediaMtxClient
  readonly breaker: CircuitBreaker
  readonly log: FastifyBaseLogger
  /** Returns the desired paths of MediaMTX. Read at every pass, so that the next pass corrects a missed change. */
  readonly desired: () => readonly PathSpec[]
  /** Time between passes, in milliseconds. @default 2000 */
  readonly intervalMs?: number
}

export interface ReconcilerEvents {
  /** After every pass. `rejected` are the cameras whose configuration the media server refuses. */
  observed: [paths: ActivePaths, rejected: ReadonlySet<string>]
  /** MediaMTX has restarted and lost every path. */
  restarted: []
}

/** Time between passes while the media server does not respond, and while a stream is still missing. */
const UNAVAILABLE_MS = 250
const INCOMPLETE_MS = 500
/** Consecutive failures before a warning: right after its start, the media server does not respond yet. */
const FAILURES_TO_WARN = 4
/** A path must be unwanted in this many consecutive passes before it is removed as an orphan. */
const ORPHAN_SIGHTINGS = 2

/** Repeatedly brings MediaMTX to the desired state. It is the only place that writes path configuration. */
export class Reconciler extends EventEmitter<ReconcilerEvents> {
  readonly #client: MediaMtxClient
  readonly #breaker: CircuitBreaker
  readonly #log: FastifyBaseLogger
  readonly #desired: () => readonly PathSpec[]
  readonly #intervalMs: number
  readonly #passes = new SingleFlight(() => this.#observe())
  readonly #rejected = new Set<string>()
  /** In how many consecutive passes an unwanted path has been seen. */
  readonly #orphans = new Map<string, number>()
  #paths: ActivePaths = null
  /** When MediaMTX was started, as it reports itself; null before the first answer. */
  #mediaMtxStart: string | null = null
  #failures = 0
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor ({ client, breaker, log, desired, intervalMs = 2000 }: ReconcilerOptions) {
    super()
    this.#client = client
    this.#breaker = breaker
    this.#log = log
    this.#desired = desired
    this.#intervalMs = intervalMs
  }

  /** The result of the last pass. */
  get paths (): ActivePaths {
    return this.#paths
  }

  start (): void {
    this.#passAndRepeat()
  }

  async stop (): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    if (this.#passes.isRunning) await this.#passes.join().catch(() => { /* logged */ })
  }

  /**
   * Requests a pass now. Resolves when a pass that started after this call has succeeded; rejects when it failed. One
   * pass runs at a time, and all calls during a pass share the next one.
   */
  reconcile (): Promise<void> {
    return this.#passes.rerun()
  }

  #passAndRepeat (): void {
    this.reconcile().catch(() => { /* logged; the next pass tries again */ }).finally(() => {
      if (this.#stopped) return
      const jitter = 0.8 + Math.random() * 0.4
      this.#timer = setTimeout(() => { this.#passAndRepeat() }, this.#pauseMs() * jitter)
    })
  }

  /** Makes one pass and reports its result. */
  async #observe (): Promise<void> {
    if (this.#stopped) throw new MediaMtxUnavailable()
    try {
      await this.#passUnlessOpen()
      if (this.#failures >= FAILURES_TO_WARN) this.#log.info('MediaMTX responds again')
      this.#failures = 0
    } catch (error) {
      this.#noteFailure(error)
      throw error
    } finally {
      if (!this.#stopped) this.emit('observed', this.#paths, this.#rejected)
    }
  }

  #noteFailure (error: unknown): void {
    const isUnavailable = error instanceof MediaMtxUnavailable
    if (isUnavailable) this.#paths = null
    this.#failures++
    const isNew = this.#failures === FAILURES_TO_WARN || (!isUnavailable && this.#failures === 1)
    if (!this.#stopped && isNew) this.#log.warn({ err: error }, 'MediaMTX could not be configured; trying again')
  }

  /** Only an unavailable media server counts as a failure. A refusal does not, since the server has responded. */
  async #passUnlessOpen (): Promise<void> {
    if (this.#breaker.enter() === 'open') throw new MediaMtxUnavailable()
    try {
      await this.#pass()
      this.#breaker.succeeded()
    } catch (error) {
      if (error instanceof MediaMtxUnavailable) this.#breaker.failed()
      else this.#breaker.succeeded()
      throw error
    }
  }

  async #pass (): Promise<void> {
    await this.#detectRestart()
    const actual = new Map((await this.#client.listConfiguredPaths()).map(conf => [conf.name, conf]))
    for (const spec of this.#desired()) {
      const change = compare(spec, actual.get(spec.name))
      if (change !== 'none') await this.#configure(spec, change)
    }
    await this.#removeOrphans([...actual.keys()])
    this.#paths = new Map((await this.#client.listPaths()).flatMap(path => {
      const camera = cameraOf(path.name)
      return camera === null ? [] : [[camera, path] as const]
    }))
  }

  async #detectRestart (): Promise<void> {
    const { started, version } = await this.#client.info()
    if (this.#mediaMtxStart !== null && started !== this.#mediaMtxStart) {
      this.#log.warn({ version }, 'MediaMTX has restarted; configuring it again')
      this.emit('restarted')
    }
    this.#mediaMtxStart = started
  }

  /** Configures one path. A camera that MediaMTX refuses must not prevent the others from being configured. */
  async #configure (spec: PathSpec, change: 'record' | 'replace'): Promise<void> {
    const camera = cameraOf(spec.name) ?? spec.name
    try {
      if (change === 'record') await this.#client.patchPath(spec.name, recordConfOf(spec.record))
      else await this.#client.replacePath(spec.name, confOf(spec))
      this.#rejected.delete(camera)
      this.#log.info({ path: spec.name, change }, 'media path configured')
    } catch (error) {
      if (!(error instanceof MediaMtxRejected)) throw error
      if (!this.#rejected.has(camera)) {
        this.#log.error({ err: error, path: spec.name }, 'MediaMTX refuses the configuration of a camera')
      }
      this.#rejected.add(camera)
    }
  }

  async #removeOrphans (actual: readonly string[]): Promise<void> {
    const wanted = new Set(this.#desired().map(spec => spec.name))
    const unwanted = actual.filter(name => cameraOf(name) !== null && !wanted.has(name))
    for (const name of this.#orphans.keys()) if (!unwanted.includes(name)) this.#orphans.delete(name)
    for (const name of unwanted) {
      const sightings = (this.#orphans.get(name) ?? 0) + 1
      this.#orphans.set(name, sightings)
      if (sightings < ORPHAN_SIGHTINGS) continue
      await this.#client.deletePath(name)
      this.#orphans.delete(name)
      this.#log.info({ path: name }, 'media path removed')
    }
  }

  #pauseMs (): number {
    const paths = this.#paths
    if (paths === null) return UNAVAILABLE_MS
    const isComplete = this.#desired().every(spec => paths.get(cameraOf(spec.name) ?? '')?.available === true)
    return isComplete ? this.#intervalMs : Math.min(INCOMPLETE_MS, this.#intervalMs)
  }
}

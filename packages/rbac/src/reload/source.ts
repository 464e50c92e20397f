import { formatProblem, type SourceProblem } from '@marty/config'
import type { FastifyBaseLogger } from 'fastify'
import { PolicyInvalid } from '../errors.js'
import type { Policy } from '../engine/policy.js'
import type { PolicyCompiler } from './compiler.js'
import { readText } from './file.js'
import { problemOf, type PolicyOrigin } from './origin.js'
import { watch } from './watch.js'

/** Whether the policy in use is the newest one, and if not, why. */
export interface PolicyStatus {
  /** The generation of the policy in use. */
  readonly generation: number
  readonly sha256: string
  /** When it was taken into use, in ISO 8601. */
  readonly loadedAt: string
  /**
   * Whether there is, or may be, a newer policy that cannot be used: for example, the file is gone or
   * Redis does not answer.
   */
  readonly stale: boolean
  /** Why it is stale; at most 101 problems. */
  readonly problems: readonly SourceProblem[]
}

/** The policy in use, and the source of the next one. */
export interface PolicySource {
  /**
   * The policy in use. It changes between two turns of the event loop, never within a decision: read it
   * once for decisions that belong together.
   */
  readonly current: Policy
  readonly status: PolicyStatus
  reload (): Promise<PolicyStatus>
}

export interface PolicySourceOptions {
  readonly policy: Policy
  readonly bytes: Uint8Array
  /** Null if the policy never changes. */
  readonly origin: PolicyOrigin | null
  readonly isWatched: boolean
  /** A test file that every policy must pass. */
  readonly tests: string | null
  /** Environments in which a newer policy must not grant more than the tests state. */
  readonly refuseGain: readonly string[]
  readonly compiler: PolicyCompiler
  /** Reasons why this process cannot use a valid policy. */
  readonly objections: (policy: Policy) => readonly SourceProblem[]
  readonly log: FastifyBaseLogger
}

export interface RunningPolicySource extends PolicySource {
  start (): Promise<void>
  close (): Promise<void>
}

/**
 * Delay before the thread is started: that takes half a second
 * of CPU time, and the service itself comes first.
 */
const PREPARE_AFTER_MS = 2_000

/**
 * Follows an origin. A policy is taken into use only after it has passed every check. If anything goes
 * wrong, the last good policy stays in use, and `status` says why.
 */
export function createPolicySource (options: PolicySourceOptions): RunningPolicySource {
  const { policy, bytes: first, origin, isWatched, tests, refuseGain, compiler, objections, log } = options
  let current = policy
  let bytes = first
  let newest = 0
  let loadedAt = new Date().toISOString()
  let problems: readonly SourceProblem[] = []
  let told = ''
  let isRead = true
  let isClosed = false
  let running: Promise<void> = Promise.resolve()
  let queued: Promise<void> | null = null
  let unwatch = (): void => {}
  let preparing: NodeJS.Timeout | undefined

  const attempt = async (from: PolicyOrigin): Promise<void> => {
    isRead = false
    try {
      const found = await from.read(newest)
      const checked = tests === null ? null : await readText(tests)
      isRead = true
      if (found !== null && Buffer.compare(found.bytes, bytes) !== 0) {
        const guard =
          refuseGain.length === 0 ? null : { inUse: { bytes, file: current.file }, environments: refuseGain }
        const { policy: next, warnings } = await compiler.compile(found, {
          previous: current,
          sha256: found.sha256,
          tests: checked,
          guard
        })
        const objected = objections(next)
        if (objected.length > 0) throw new PolicyInvalid(objected)
        if (isClosed) return
        current = next
        bytes = found.bytes
        loadedAt = new Date().toISOString()
        log.info(
          { policy: next.file, sha256: next.sha256, generation: next.generation, rules: next.rules },
          'policy reloaded'
        )
        void warnings.then(found => {
          if (found.length > 0) {
            log.warn(
              { policy: next.file, sha256: next.sha256, warnings: found.map(formatProblem) },
              'the policy is sound, but probably not what was meant'
            )
          }
        })
      }
      if (found !== null) newest = found.generation
      tell([])
    } catch (error) {
      if (!isClosed) {
        tell(
          error instanceof PolicyInvalid
            ? error.problems
            : [problemOf(current.file, `could not be loaded: ${(error as Error).message}`)]
        )
      }
    }
  }
  /** Reports problems. A file that stays broken is reported once. */
  const tell = (found: readonly SourceProblem[]): void => {
    problems = Object.freeze([...found])
    const lines = found.map(formatProblem)
    const isNews = lines.join('\n') !== told
    told = lines.join('\n')
    if (!isNews) return
    if (lines.length > 0) {
      log.error(
        { problems: lines, sha256: current.sha256, generation: current.generation },
        'policy not reloaded: the last good one stays in use'
      )
    } else log.info({ sha256: current.sha256, generation: current.generation }, 'policy in use is the newest again')
  }

  const source: RunningPolicySource = {
    get current () { return current },
    get status () {
      return Object.freeze({
        generation: current.generation,
        sha256: current.sha256,
        loadedAt,
        stale: problems.length > 0,
        problems
      })
    },
    async reload () {
      if (origin !== null && !isClosed) {
        // One at a time: callers that arrive during a reload share the next one, which reads the newest
        // policy at that time.
        queued ??= running.then(async () => {
          queued = null
          await (running = attempt(origin))
        })
        await queued
      }
      return source.status
    },
    async start () {
      if (origin === null || !isWatched) return
      if (origin.start !== undefined) {
        await origin.start()
        await source.reload()
      }
      preparing = setTimeout(() => { compiler.prepare() }, PREPARE_AFTER_MS).unref()
      unwatch = watch(origin, async () => {
        await source.reload()
        return isRead
      })
    },
    async close () {
      isClosed = true
      clearTimeout(preparing)
      unwatch()
      await compiler.close()
    }
  }
  return source
}

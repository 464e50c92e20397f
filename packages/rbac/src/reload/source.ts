import { formatProblem, type SourceProblem } from '@marty/config'
import type { FastifyBaseLogger } from 'fastify'
import { PolicyInvalid } from '../errors.js'
import type { Policy } from '../engine/policy.js'
import type { PolicyCompiler } from './compiler.js'
import { readText } from './file.js'
import { problemOf, type FoundPolicy, type PolicyOrigin } from './origin.js'
import { watch } from './watch.js'
import type { PolicyText } from './worker.js'

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
  readonly violations: (policy: Policy) => readonly SourceProblem[]
  readonly log: FastifyBaseLogger
}

/**
 * Delay before the thread is started: that takes half a second
 * of CPU time, and the service itself comes first.
 */
const PREPARE_AFTER_MS = 2_000

/**
 * The policy in use, and the source of the next one. Follows an origin: a policy is taken into use only
 * after it has passed every check. If anything goes wrong, the last good policy stays in use, and `status`
 * says why.
 */
export class PolicySource {
  readonly #options: PolicySourceOptions
  readonly #log: FastifyBaseLogger
  #current: Policy
  #bytes: Uint8Array
  #loadedAt = new Date().toISOString()
  /** The origin's generation that was read last. */
  #newest = 0
  #problems: readonly SourceProblem[] = []
  #loggedProblems = ''
  /** Whether the last attempt could read the origin and the tests. */
  #couldRead = true
  #isClosed = false
  #running: Promise<void> = Promise.resolve()
  #queued: Promise<void> | null = null
  #preparing: NodeJS.Timeout | undefined
  #stopWatching = (): void => {}

  constructor (options: PolicySourceOptions) {
    this.#options = options
    this.#log = options.log
    this.#current = options.policy
    this.#bytes = options.bytes
  }

  /**
   * The policy in use. It changes between two turns of the event loop, never within a decision: read it
   * once for decisions that belong together.
   */
  get current (): Policy {
    return this.#current
  }

  get status (): PolicyStatus {
    return Object.freeze({
      generation: this.#current.generation,
      sha256: this.#current.sha256,
      loadedAt: this.#loadedAt,
      stale: this.#problems.length > 0,
      problems: this.#problems
    })
  }

  async start (): Promise<void> {
    const { origin, isWatched, compiler } = this.#options
    if (origin === null || !isWatched) return
    if (origin.start !== undefined) {
      await origin.start()
      await this.reload()
    }
    this.#preparing = setTimeout(() => { compiler.prepare() }, PREPARE_AFTER_MS).unref()
    this.#stopWatching = watch(origin, async () => {
      await this.reload()
      return this.#couldRead
    })
  }

  /** Never rejects. */
  async reload (): Promise<PolicyStatus> {
    const { origin } = this.#options
    if (origin !== null && !this.#isClosed) {
      // One at a time: callers that arrive during a reload share the next one, which reads the newest
      // policy at that time.
      this.#queued ??= this.#running.then(async () => {
        this.#queued = null
        await (this.#running = this.#attempt(origin))
      })
      await this.#queued
    }
    return this.status
  }

  async close (): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#preparing)
    this.#stopWatching()
    await this.#options.compiler.close()
  }

  async #attempt (origin: PolicyOrigin): Promise<void> {
    try {
      await this.#loadFrom(origin)
      if (!this.#isClosed) this.#setProblems([])
    } catch (error) {
      if (this.#isClosed) return
      this.#setProblems(
        error instanceof PolicyInvalid
          ? error.problems
          : [problemOf(this.#current.file, `could not be loaded: ${(error as Error).message}`)]
      )
    }
  }

  async #loadFrom (origin: PolicyOrigin): Promise<void> {
    const { tests } = this.#options
    this.#couldRead = false
    const found = await origin.read(this.#newest)
    const testText = tests === null ? null : await readText(tests)
    this.#couldRead = true
    if (found === null) return
    if (Buffer.compare(found.bytes, this.#bytes) !== 0) await this.#replaceWith(found, testText)
    this.#newest = found.generation
  }

  /** Compiles and checks a policy, and takes it into use. Throws {@link PolicyInvalid} if it must not be used. */
  async #replaceWith (found: FoundPolicy, tests: PolicyText | null): Promise<void> {
    const { compiler, refuseGain, violations } = this.#options
    const inUse = { bytes: this.#bytes, file: this.#current.file }
    const { policy, warnings } = await compiler.compile(found, {
      previous: this.#current,
      sha256: found.sha256,
      tests,
      guard: refuseGain.length === 0 ? null : { inUse, environments: refuseGain }
    })
    const violated = violations(policy)
    if (violated.length > 0) throw new PolicyInvalid(violated)
    if (this.#isClosed) return
    this.#current = policy
    this.#bytes = found.bytes
    this.#loadedAt = new Date().toISOString()
    const { file, sha256, generation, rules } = policy
    this.#log.info({ policy: file, sha256, generation, rules }, 'policy reloaded')
    void warnings.then(warnings => { this.#logWarnings(policy, warnings) })
  }

  #logWarnings ({ file, sha256 }: Policy, warnings: readonly SourceProblem[]): void {
    if (warnings.length === 0) return
    this.#log.warn(
      { policy: file, sha256, warnings: warnings.map(formatProblem) },
      'the policy is valid, but probably contains mistakes'
    )
  }

  /** Sets the problems of the status, and logs them unless they are the same as before. */
  #setProblems (problems: readonly SourceProblem[]): void {
    this.#problems = Object.freeze([...problems])
    const lines = problems.map(formatProblem)
    const text = lines.join('\n')
    if (text === this.#loggedProblems) return
    this.#loggedProblems = text
    const { sha256, generation } = this.#current
    if (lines.length > 0) {
      this.#log.error({ problems: lines, sha256, generation }, 'policy not reloaded: the last good one stays in use')
    } else {
      this.#log.info({ sha256, generation }, 'the policy in use is the newest one again')
    }
  }
}

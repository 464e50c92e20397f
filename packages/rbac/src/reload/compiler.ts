import { Worker } from 'node:worker_threads'
import type { SourceProblem } from '@marty/config'
import { PolicyInvalid } from '../errors.js'
import { partsOf, type Policy } from '../engine/policy.js'
import { problemOf } from './origin.js'
import { unpackPolicy } from './transfer.js'
import type { PolicyText, WorkerAnswer, WorkerWarnings, WorkerTask } from './worker.js'

export interface CompiledPolicy {
  readonly policy: Policy
  /**
   * Probable mistakes in the policy, limited in number. They are searched for one second later; the
   * promise stays pending if the thread ends or another policy arrives before that.
   */
  readonly warnings: Promise<readonly SourceProblem[]>
}

export interface CompileTask extends Pick<WorkerTask, 'sha256' | 'tests' | 'guard'> {
  readonly previous: Policy
}

/** The heap limit of the thread. A policy of 100,000 rules takes a third of it. */
const MAX_HEAP_MB = 768

/**
 * Compiles policies in a worker thread, so that requests do not wait meanwhile. The thread is started for
 * the first policy, or before, and kept for the next. A thread that crashes, runs out of memory or exceeds
 * the deadline is abandoned, together with the policy it was compiling.
 */
export class PolicyCompiler {
  readonly #timeoutSeconds: number
  readonly #clock: () => number
  #worker: Worker | null = null
  /** The warnings about the policy that the thread compiled last. */
  #warnings: CompiledPolicy['warnings'] = Promise.resolve([])
  #resolveWarnings = (_: readonly SourceProblem[]): void => {}

  constructor (timeoutSeconds: number, clock: () => number) {
    this.#timeoutSeconds = timeoutSeconds
    this.#clock = clock
  }

  /** Starts the thread, unless it is running, so that the next policy does not wait for it. */
  prepare (): void {
    this.#runningWorker().unref()
  }

  /** Compiles a policy, one at a time. Throws {@link PolicyInvalid} for everything that makes it unusable. */
  async compile ({ bytes, file }: PolicyText, { previous, ...task }: CompileTask): Promise<CompiledPolicy> {
    const { packed, problems } = await this.#run({ bytes, file, known: partsOf(previous).ids, ...task })
    if (packed === null) throw new PolicyInvalid(problems)
    const warnings = this.#warnings
    return { policy: await unpackPolicy(packed, { bytes, file, previous, clock: this.#clock }), warnings }
  }

  async close (): Promise<void> {
    await this.#worker?.terminate()
  }

  #runningWorker (): Worker {
    this.#worker ??= this.#startWorker()
    return this.#worker
  }

  #startWorker (): Worker {
    const worker = new Worker(new URL('./worker.js', import.meta.url), {
      name: '@marty/rbac',
      // Flags of the process, such as loaders, do not apply to this thread.
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB }
    })
    worker.on('message', (message: WorkerAnswer | WorkerWarnings) => {
      if ('warnings' in message) this.#resolveWarnings(message.warnings)
      else this.#warnings = new Promise(resolve => { this.#resolveWarnings = resolve })
    })
    worker.on('exit', () => { if (this.#worker === worker) this.#worker = null })
    // The code that waits for the answer reports the error.
    worker.on('error', () => {})
    return worker
  }

  /** Sends a task to the thread, and waits for its answer. A thread that fails answers with a problem. */
  async #run (task: WorkerTask): Promise<WorkerAnswer> {
    const worker = this.#runningWorker()
    worker.ref()
    return await new Promise<WorkerAnswer>(resolve => {
      let error: Error | null = null
      const onError = (reason: Error): void => { error = reason }
      const onExit = (): void => { fail(`: ${error === null ? 'the thread ended' : error.message}`) }
      // Warnings about the previous policy may arrive first: the time spent on them counts for this one.
      const onMessage = (message: WorkerAnswer | WorkerWarnings): void => { if ('packed' in message) finish(message) }
      const finish = (answer: WorkerAnswer): void => {
        clearTimeout(timer)
        worker.off('message', onMessage).off('error', onError).off('exit', onExit)
        worker.unref()
        resolve(answer)
      }
      const fail = (reason: string): void => {
        finish({ packed: null, problems: [problemOf(task.file, `could not be compiled${reason}`)] })
      }
      const timer = setTimeout(() => {
        fail(` within ${this.#timeoutSeconds} seconds`)
        this.#worker = null
        void worker.terminate()
      }, this.#timeoutSeconds * 1_000)
      worker.on('message', onMessage).on('error', onError).on('exit', onExit)
      worker.postMessage(task)
    })
  }
}

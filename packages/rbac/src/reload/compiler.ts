import { Worker } from 'node:worker_threads'
import type { SourceProblem } from '@marty/config'
import { PolicyInvalid } from '../errors.js'
import { partsOf, type Policy } from '../engine/policy.js'
import { problemOf } from './origin.js'
import { unpackPolicy } from './transfer.js'
import type { PolicyText, WorkerAnswer, WorkerRemarks, WorkerTask } from './worker.js'

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

export interface PolicyCompiler {
  /** Starts the thread, unless it is running, so that the next policy does not wait for it. */
  prepare (): void
  /** Compiles a policy, one at a time. Throws {@link PolicyInvalid} for everything that makes it unusable. */
  compile (text: PolicyText, task: CompileTask): Promise<CompiledPolicy>
  close (): Promise<void>
}

/** The heap limit of the thread. A policy of 100,000 rules takes a third of it. */
const MAX_HEAP_MB = 768

/**
 * Compiles policies in a worker thread, so that requests do not wait meanwhile. The thread is started for
 * the first policy, or before, and kept for the next. A thread that crashes, runs out of memory or exceeds
 * the deadline is abandoned, together with the policy it was compiling.
 */
export function createPolicyCompiler (timeoutMs: number, clock: () => number): PolicyCompiler {
  let worker: Worker | null = null
  let warnings: CompiledPolicy['warnings'] = Promise.resolve([])
  let remark = (_: readonly SourceProblem[]): void => {}

  const start = (): Worker => {
    const started = new Worker(new URL('./worker.js', import.meta.url), {
      name: '@marty/rbac',
      // Flags of the process, such as loaders, do not apply to this thread.
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB }
    })
    started.on('message', (message: WorkerAnswer | WorkerRemarks) => {
      if ('warnings' in message) remark(message.warnings)
      else warnings = new Promise(resolve => { remark = resolve })
    })
    started.on('exit', () => { if (worker === started) worker = null })
    // The code that waits for the answer reports the error.
    started.on('error', () => {})
    return started
  }
  const answerOf = async (task: WorkerTask): Promise<WorkerAnswer> => {
    const used = worker ??= start()
    used.ref()
    const fault = (message: string): WorkerAnswer => ({ packed: null, problems: [problemOf(task.file, message)] })
    return await new Promise<WorkerAnswer>(resolve => {
      let error: Error | null = null
      const failed = (reason: Error): void => { error = reason }
      const ended = (): void => {
        settle(fault(`could not be compiled: ${error === null ? 'the thread ended' : error.message}`))
      }
      // Remarks about the previous policy may arrive first: the time spent on them counts for this one.
      const received = (message: WorkerAnswer | WorkerRemarks): void => { if ('packed' in message) settle(message) }
      const settle = (answer: WorkerAnswer): void => {
        clearTimeout(timer)
        used.off('message', received).off('error', failed).off('exit', ended)
        used.unref()
        resolve(answer)
      }
      const timer = setTimeout(() => {
        settle(fault(`could not be compiled within ${timeoutMs} ms`))
        worker = null
        void used.terminate()
      }, timeoutMs)
      used.on('message', received).on('error', failed).on('exit', ended)
      used.postMessage(task)
    })
  }
  return {
    prepare () {
      worker ??= start()
      worker.unref()
    },
    async compile ({ bytes, file }, { previous, ...task }) {
      const answer = await answerOf({ bytes, file, known: partsOf(previous).ids, ...task })
      if (answer.packed === null) throw new PolicyInvalid(answer.problems)
      const found = warnings
      return { policy: await unpackPolicy(answer.packed, { bytes, file, previous, clock }), warnings: found }
    },
    async close () {
      await worker?.terminate()
    }
  }
}

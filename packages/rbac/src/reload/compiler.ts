import { Worker } from 'node:worker_threads'
import type { SourceProblem } from '@marty/config'
import { PolicyInvalid } from '../errors.js'
import { partsOf, type Policy } from '../engine/policy.js'
import { problemOf } from './origin.js'
import { unpackPolicy } from './transfer.js'
import type { PolicyText, WorkerAnswer, WorkerRemarks, WorkerTask } from './worker.js'

export interface CompiledPolicy {
  readonly policy: Policy
  /** What is probably not meant; some of it, when it is much. Looked for a second afterwards; never told when the thread ends before, or another policy comes. */
  readonly warnings: Promise<readonly SourceProblem[]>
}

export interface CompileTask extends Pick<WorkerTask, 'sha256' | 'tests' | 'guard'> {
  readonly previous: Policy
}

export interface PolicyCompiler {
  /** Starts the thread, unless it runs: the next policy needs not wait for it. */
  prepare (): void
  /** Throws {@link PolicyInvalid} for whatever keeps the text from becoming a policy. One at a time. */
  compile (text: PolicyText, task: CompileTask): Promise<CompiledPolicy>
  close (): Promise<void>
}

/** A policy of 100,000 rules takes a third of it. */
const MAX_HEAP_MB = 768

/**
 * Compiles policies in a thread of its own, so that requests do not wait meanwhile. The thread is started by the first
 * policy, or before, and kept for the next; one that crashes, runs out of memory or takes longer than the deadline is given up,
 * and with it the policy it was at work on.
 */
export function createPolicyCompiler (timeoutMs: number, clock: () => number): PolicyCompiler {
  let worker: Worker | null = null
  let warnings: CompiledPolicy['warnings'] = Promise.resolve([])
  let remark = (_: readonly SourceProblem[]): void => {}

  const start = (): Worker => {
    const started = new Worker(new URL('./worker.js', import.meta.url), {
      name: '@marty/rbac',
      // Flags of the process, such as loaders, are not for this thread.
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MB }
    })
    started.on('message', (message: WorkerAnswer | WorkerRemarks) => {
      if ('warnings' in message) remark(message.warnings)
      else warnings = new Promise(resolve => { remark = resolve })
    })
    started.on('exit', () => { if (worker === started) worker = null })
    // It is told where the answer is waited for.
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
      // Remarks of the policy before may come first: looking for them is part of this one's time.
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

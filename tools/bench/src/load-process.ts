import { fork } from 'node:child_process'
import { once } from 'node:events'
import type { LoadJob, LoadResult } from './http-load.js'

/** Runs jobs, one at a time, in a separate process. */
export interface LoadProcess {
  /** Opens the connections of a job and creates its credentials. */
  prepare (job: LoadJob): Promise<void>
  run (job: LoadJob): Promise<LoadResult>
  close (): void
}

export function startLoadProcess (): LoadProcess {
  // Do not pass on options of this process, such as --cpu-prof: they are meant for the server.
  const child = fork(new URL('http-load-process.js', import.meta.url), { execArgv: [] })
  const ask = async (task: 'prepare' | 'run', job: LoadJob): Promise<LoadResult> => {
    child.send({ task, job })
    const [{ result, error }] = await once(child, 'message') as [{ result: LoadResult, error?: string }]
    if (error !== undefined) throw new Error(`the load stopped: ${error}`)
    return result
  }
  return {
    async prepare (job) { await ask('prepare', job) },
    run: job => ask('run', job),
    close () { child.disconnect() }
  }
}

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { childEnvironment } from './environment.js'

// When this process exits, it must end its child processes: nothing else would.
const groups = new Set<number>()
process.on('exit', () => { for (const pid of groups) signalGroup(pid, 'SIGKILL') })

export interface ChildOptions {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd?: string
  /** Receives every line of standard output and standard error. Both are always drained. */
  readonly onLine?: (line: string) => void
}

/** A child process in its own process group, so that it can be ended reliably with its descendants. */
export interface Child {
  readonly pid: number
  /** Settles when the process has ended; never rejects. */
  readonly ended: Promise<{ readonly code: number | null, readonly signal: NodeJS.Signals | null }>
  readonly running: boolean
  /** Sends SIGINT, then SIGTERM, then SIGKILL, waiting `graceMs` after each. Resolves when the process has ended. */
  stop (graceMs?: number): Promise<void>
}

/** Starts a program without a shell. Rejects when it cannot be started. */
export async function startChild ({ command, args, cwd, onLine = () => {} }: ChildOptions): Promise<Child> {
  const child: ChildProcess = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: childEnvironment(),
    ...(cwd === undefined ? {} : { cwd })
  })
  for (const stream of [child.stdout, child.stderr]) {
    if (stream !== null) createInterface({ input: stream }).on('line', onLine)
  }
  let running = true
  const ended = new Promise<{ code: number | null, signal: NodeJS.Signals | null }>(resolve => {
    child.once('exit', (code, signal) => {
      running = false
      resolve({ code, signal })
    })
  })
  await Promise.race([
    once(child, 'spawn'),
    once(child, 'error').then(([error]: Error[]) => { throw error ?? new Error(`${command} could not be started`) })
  ])
  child.on('error', () => { /* a failed kill is seen by the process still running */ })
  const pid = child.pid!
  groups.add(pid)
  void ended.then(() => { groups.delete(pid) })

  return {
    pid,
    ended,
    get running () { return running },
    async stop (graceMs = 3000) {
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
        if (!running) return
        signalGroup(pid, signal)
        await Promise.race([ended, delay(graceMs)])
      }
      await ended
    }
  }
}

function signalGroup (pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch { /* already gone */ }
}

function delay (ms: number): Promise<void> {
  return new Promise(resolve => { setTimeout(resolve, ms).unref() })
}

import { spawn } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'

const OUTPUT_BOUND = 1024 * 1024

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set()

/**
 * Runs a program until it ends. Collects the output of both streams, in the order in which it arrives.
 * A failure of the program does not reject the promise. If the program cannot start, `code` is -1 and `output` is the
 * reason.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, timeoutMs?: number, onLine?: (line: string) => void }} [options]
 *   `timeoutMs`: after this time, the program and all processes that it started are killed. Default: no limit.
 * @returns {Promise<{ code: number, output: string, timedOut: boolean }>}
 */
export async function run (command, args, { cwd, env, timeoutMs, onLine } = {}) {
  // Only a run with a time limit gets its own process group. All other programs must receive Ctrl-C from the terminal.
  const detached = timeoutMs !== undefined && process.platform !== 'win32'
  const child = spawn(command, args, { cwd, env, detached, stdio: ['ignore', 'pipe', 'pipe'] })
  running.add(child)

  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream.setEncoding('utf8')
    stream.on('data', (/** @type {string} */ chunk) => {
      output = (output + chunk).slice(-OUTPUT_BOUND)
      if (onLine === undefined) return
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) onLine(line)
    })
  }

  return new Promise((resolve) => {
    let timedOut = false
    const timer = timeoutMs === undefined ? undefined : setTimeout(giveUp, timeoutMs)
    child.once('error', (error) => end(-1, error.message))
    child.once('close', (code, signal) => end(code ?? -1, signal === null ? '' : `ended by ${signal}`))

    function giveUp () {
      timedOut = true
      kill(child, detached)
      // A process that the program started may keep the pipes open, so do not wait for 'close'.
      child.stdout.destroy()
      child.stderr.destroy()
      end(-1, `no answer within ${timeoutMs} ms`)
    }

    /**
     * @param {number} code
     * @param {string} note
     */
    function end (code, note) {
      clearTimeout(timer)
      running.delete(child)
      resolve({ code, timedOut, output: note === '' ? output : `${output}${note}\n` })
    }
  })
}

/** Ends every program that is still running. Called when a signal ends setup. */
export function killRunning () {
  for (const child of running) kill(child, false)
}

/**
 * Finds a program in the same way as a shell.
 *
 * @param {string} name
 * @param {NodeJS.ProcessEnv} env
 * @param {readonly string[]} [extraFolders] searched after PATH
 * @returns {string | undefined} its absolute path
 */
export function findOnPath (name, env, extraFolders = []) {
  const folders = [...(env.PATH ?? env.Path ?? '').split(path.delimiter), ...extraFolders]
  const endings = process.platform === 'win32' ? ['.exe', '.cmd', ''] : ['']
  for (const folder of folders) {
    if (folder === '') continue
    for (const ending of endings) {
      const file = path.resolve(folder, name + ending)
      if (isExecutable(file)) return file
    }
  }
  return undefined
}

/**
 * @param {string} file
 * @returns {boolean}
 */
function isExecutable (file) {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch {
    return false
  }
}

/**
 * @param {import('node:child_process').ChildProcess} child
 * @param {boolean} group
 */
function kill (child, group) {
  if (child.pid === undefined) return
  try {
    process.kill(group ? -child.pid : child.pid, group ? 'SIGKILL' : 'SIGTERM')
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH') throw error
  }
}

import { spawn } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'

const OUTPUT_BOUND = 1024 * 1024

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set()

/**
 * Runs a program to its end and collects what it prints, both streams in the order they arrive.
 * Never throws for what the program does: a program that cannot start gives `code` -1 and the reason as output.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, timeoutMs?: number, onLine?: (line: string) => void }} [options]
 *   `timeoutMs`: the program and all it started are killed after it; without it there is no limit
 * @returns {Promise<{ code: number, output: string, timedOut: boolean }>}
 */
export async function run (command, args, { cwd, env, timeoutMs, onLine } = {}) {
  // Only a bounded run gets a process group of its own: everything else must hear Ctrl-C from the terminal.
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
      // A grandchild may keep the pipes open: do not wait for 'close'.
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

/** Ends every program that is still running. For the moment setup itself is told to end. */
export function killRunning () {
  for (const child of running) kill(child, false)
}

/**
 * Looks a program up as a shell would.
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

import path from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { HELP, parseArguments } from './arguments.mjs'
import { killRunning } from './command.mjs'
import { SetupError } from './errors.mjs'
import { releaseLocks } from './lock.mjs'
import { createProgress } from './progress.mjs'
import { setUp } from './steps.mjs'

const ROOT = path.resolve(fileURLToPath(new URL('../../..', import.meta.url)))
const SIGNALS = /** @type {const} */ ({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 })

/**
 * The `setup` command. Sets the exit code: 0 ready (perhaps with warnings), 1 a step failed, 2 wrong arguments.
 *
 * @param {readonly string[]} args
 */
export async function runCommandLine (args) {
  const options = readArguments(args)
  if (options === undefined) return
  if (options.help) {
    process.stdout.write(HELP)
    return
  }
  for (const [signal, code] of Object.entries(SIGNALS)) {
    process.once(signal, () => {
      killRunning()
      releaseLocks()
      process.exit(code)
    })
  }

  // With --json, standard output contains only the report.
  const stream = options.json ? process.stderr : process.stdout
  stream.write(`Setting up for ${options.purpose}\n`)
  const report = await setUp({ root: ROOT, purpose: options.purpose, progress: createProgress(stream) })
  const warned = report.steps.some((step) => step.status === 'warning')
  const ready = warned ? 'Ready, with warnings,' : 'Ready'
  const outcome = report.ok ? ready : 'Not ready: stopped'
  stream.write(`${outcome} after ${report.seconds.toFixed(1)} s\n`)
  if (options.json) process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`)
  process.exitCode = report.ok ? 0 : 1
}

/**
 * @param {readonly string[]} args
 */
function readArguments (args) {
  try {
    return parseArguments(args)
  } catch (error) {
    if (!(error instanceof SetupError)) throw error
    process.stderr.write(`${error.code}: ${error.message}\n  ${error.remedy}\n`)
    process.exitCode = 2
    return undefined
  }
}

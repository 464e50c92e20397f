import path from 'node:path'
import process from 'node:process'
import { SetupError } from './errors.mjs'
import { withLock } from './lock.mjs'
import { findMediaMtx } from './mediamtx.mjs'
import { installDependencies } from './npm.mjs'
import { provideSystemParts } from './system-parts.mjs'
import { compileTypeScript } from './typescript.mjs'

/**
 * @typedef {import('./system-parts.mjs').Purpose} Purpose
 * @typedef {object} StepReport
 * @property {string} name
 * @property {import('./progress.mjs').StepStatus} status
 * @property {string} detail
 * @property {number} seconds
 * @property {string} [code] of the error
 * @property {string} [remedy] the command or action that solves the problem
 * @property {string} [output] what the failed tool printed
 * @typedef {object} SetupReport
 * @property {boolean} ok
 * @property {Purpose} purpose
 * @property {number} seconds
 * @property {StepReport[]} steps
 * @property {import('./mediamtx.mjs').MediaMtx} [mediamtx]
 */

/**
 * Prepares this machine for a purpose. Stops at the first step that fails. For `start`, a missing ffmpeg, v4l-utils or
 * MediaMTX is only a warning: the service then starts degraded and reports this itself.
 *
 * @param {{ root: string, purpose: Purpose, progress: import('./progress.mjs').Progress, env?: NodeJS.ProcessEnv }}
 * options
 * @returns {Promise<SetupReport>} does not reject when a step fails: the report contains the failure
 */
export async function setUp ({ root, purpose, progress, env = process.env }) {
  const started = performance.now()
  /** @type {SetupReport} */
  const report = { ok: true, purpose, seconds: 0, steps: [] }
  const lock = path.join(root, '.cache', 'setup', 'lock')
  const onWait = (/** @type {string} */ pid) => progress.print(`Another setup (process ${pid}) is running here: waiting for it.`)

  await withLock(lock, async () => {
    for (const step of steps({ root, purpose, env, report })) {
      await runStep(step, report, progress)
      if (!report.ok) break
    }
  }, onWait)
  report.seconds = (performance.now() - started) / 1000
  return report
}

/**
 * @typedef {object} Step
 * @property {string} name
 * @property {boolean} needed if false, a failure of the step is only a warning
 * @property {string} [withoutIt] printed when a step that is not needed fails: what the failure means
 * @property {(say: (text: string) => void) => Promise<{ detail: string, notes?: string[] }>} work resolves to the text
 *   of the closing line, and to lines to print below it
 */

/**
 * @param {{ root: string, purpose: Purpose, env: NodeJS.ProcessEnv, report: SetupReport }} context
 * @returns {Step[]}
 */
function steps ({ root, purpose, env, report }) {
  const needed = purpose !== 'start'
  return [
    // setup.mjs refuses an unsupported Node before it loads this file.
    { name: 'node', needed: true, work: async () => ({ detail: process.versions.node }) },
    { name: 'npm dependencies', needed: true, work: async (say) => ({ detail: await installDependencies({ root, env, say }) }) },
    {
      name: 'system parts',
      needed,
      withoutIt: 'Cameras, snapshots and recordings need these parts: the service starts degraded.',
      work: async (say) => {
        const { present, installed } = await provideSystemParts({ purpose, env, say })
        return { detail: [...present, ...installed.map((name) => `${name} (installed)`)].join(', ') }
      }
    },
    {
      name: 'mediamtx',
      needed,
      withoutIt: 'Nothing can be played without MediaMTX: the service starts degraded.',
      work: async (say) => {
        report.mediamtx = await findMediaMtx({ root, env, say })
        const { version, source, path: file, passedOver } = report.mediamtx
        const how = { MEDIAMTX_BIN: 'MEDIAMTX_BIN', PATH: 'PATH', cache: 'cache', release: 'official release', go: 'built with Go' }[source]
        const shown = path.relative(root, file).startsWith('..') ? file : path.relative(root, file)
        return { detail: `v${version}, ${how}: ${shown}`, notes: passedOver.map((reason) => `not used: ${reason}`) }
      }
    },
    { name: 'typescript', needed: true, work: async (say) => ({ detail: await compileTypeScript({ root, say }) }) }
  ]
}

/**
 * @param {Step} step
 * @param {SetupReport} report
 * @param {import('./progress.mjs').Progress} progress
 */
async function runStep (step, report, progress) {
  const line = progress.begin(step.name)
  try {
    const { detail, notes = [] } = await step.work(line.say)
    report.steps.push({ name: step.name, status: 'ok', detail, seconds: line.end('ok', detail) })
    for (const note of notes) progress.print(note)
  } catch (error) {
    if (!(error instanceof SetupError)) {
      line.end('failed', 'stopped by an error in setup itself')
      throw error
    }
    const { code, message, remedy, output } = error
    const status = step.needed ? 'failed' : 'warning'
    const seconds = line.end(status, message.replaceAll('\n', '\n      '))
    if (output !== undefined && output.trim() !== '') progress.print(output.trimEnd())
    if (!step.needed && step.withoutIt !== undefined) progress.print(step.withoutIt)
    progress.print(code)
    if (remedy !== undefined) progress.print(`What to do: ${remedy}`)
    report.steps.push({
      name: step.name,
      status,
      detail: message,
      seconds,
      code,
      ...(remedy !== undefined && { remedy }),
      ...(output !== undefined && { output })
    })
    report.ok &&= !step.needed
  }
}

import process from 'node:process'

const NAME_WIDTH = 18
const HEARTBEAT_MS = 10_000
const FRAME_MS = 120
const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏']
const COLOURS = { ok: 32, warning: 33, failed: 31, dim: 2 }
const MARKS = { ok: '✓', warning: '!', failed: '✗' }

/**
 * @typedef {'ok' | 'warning' | 'failed'} StepStatus
 * @typedef {object} StepLine a running step
 * @property {(text: string) => void} say shows the current activity
 * @property {(status: StepStatus, detail: string) => number} end prints the closing line; returns the duration in
 *   seconds
 * @typedef {object} Progress
 * @property {(name: string) => StepLine} begin
 * @property {(text: string) => void} print prints a separate line, indented below the step
 */

/**
 * Shows steps on a stream. On a terminal, one line is updated for each step. Elsewhere, plain lines are printed: the
 * first activity, then one line every 10 s.
 *
 * @param {{ write: (text: string) => unknown, isTTY?: boolean | undefined }} stream
 * @param {NodeJS.ProcessEnv} [env] NO_COLOR (any non-empty value) turns colours off, see https://no-color.org
 * @returns {Progress}
 */
export function createProgress (stream, env = process.env) {
  const live = stream.isTTY === true && env.TERM !== 'dumb'
  const coloured = live && (env.NO_COLOR ?? '') === ''
  /** @type {(text: string, colour: keyof typeof COLOURS) => string} */
  const paint = (text, colour) => coloured ? `\u001B[${COLOURS[colour]}m${text}\u001B[0m` : text
  const clear = live ? '\r\u001B[K' : ''

  return { begin, print: (text) => { stream.write(`${clear}      ${text.replaceAll('\n', '\n      ')}\n`) } }

  /**
   * @param {string} name
   * @returns {StepLine}
   */
  function begin (name) {
    const started = performance.now()
    const label = name.padEnd(NAME_WIDTH)
    let doing = ''
    let frame = 0
    let lastLine = 0
    const timer = setInterval(tick, live ? FRAME_MS : HEARTBEAT_MS)
    return { say, end }

    /** @param {string} text */
    function say (text) {
      const first = doing === ''
      doing = text
      if (live || (!first && performance.now() - lastLine < HEARTBEAT_MS)) return
      tick()
    }

    function tick () {
      if (doing === '') return
      lastLine = performance.now()
      const mark = live ? FRAMES[frame++ % FRAMES.length] : '…'
      const line = `  ${mark} ${label} ${doing} ${paint(`${seconds().toFixed(0)} s`, 'dim')}`
      stream.write(live ? clear + line : `${line}\n`)
    }

    /**
     * @param {StepStatus} status
     * @param {string} detail
     */
    function end (status, detail) {
      clearInterval(timer)
      const took = seconds()
      stream.write(`${clear}  ${paint(MARKS[status], status)} ${label} ${detail} ${paint(`(${took.toFixed(1)} s)`, 'dim')}\n`)
      return took
    }

    function seconds () {
      return (performance.now() - started) / 1000
    }
  }
}

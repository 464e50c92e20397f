import { SetupError } from './errors.mjs'

const PURPOSES = /** @type {const} */ (['start', 'test', 'v4l2'])
const OPTIONS = ['--for', '--json', '--help']

export const HELP = `Usage: node tools/setup/setup.mjs [--for start|test|v4l2] [--json]

Gets this machine ready: checks Node, installs the npm dependencies, finds or installs the system parts,
finds, downloads or builds MediaMTX, and compiles the TypeScript sources. What is there already is left alone.

  --for start   what the service needs: ffmpeg, v4l-utils, MediaMTX (the default). When one of them cannot be had
                this only warns: the service then starts degraded
  --for test    what the tests need: also redis-server and Chromium. What is missing is an error
  --for v4l2    what the camera tests in a virtual machine need: also QEMU, cpio, busybox-static, kmod
  --json        print a report as JSON on standard output, and the progress on standard error
  --help        print this

As root on Debian or Ubuntu, missing parts are installed with apt-get; otherwise the command to run is printed.

Environment:
  MEDIAMTX_BIN              the MediaMTX to use
  MARTY_MEDIAMTX_RELEASES   another address of the MediaMTX releases, laid out as the official one
  NO_COLOR                  no colours

Exit codes: 0 ready, 1 a step failed, 2 wrong arguments
`

/**
 * @param {readonly string[]} args
 * @returns {{ purpose: typeof PURPOSES[number], json: boolean, help: boolean }}
 * @throws {SetupError} MARTY_SETUP_ARGUMENT_INVALID
 */
export function parseArguments (args) {
  const options = { purpose: /** @type {typeof PURPOSES[number]} */ ('start'), json: false, help: false }
  const rest = args.flatMap((argument) => argument.startsWith('--for=') ? ['--for', argument.slice('--for='.length)] : [argument])
  while (rest.length > 0) {
    const argument = /** @type {string} */ (rest.shift())
    if (argument === '--help' || argument === '-h') options.help = true
    else if (argument === '--json') options.json = true
    else if (argument === '--for') options.purpose = readPurpose(rest.shift())
    else throw invalid(`Unknown argument ${JSON.stringify(argument)}`, argument, OPTIONS)
  }
  return options
}

/**
 * @param {string | undefined} value
 */
function readPurpose (value) {
  const purpose = PURPOSES.find((known) => known === value)
  if (purpose !== undefined) return purpose
  throw invalid(value === undefined ? '--for needs a value' : `--for ${JSON.stringify(value)} is unknown`, value ?? '', PURPOSES)
}

/**
 * @param {string} message
 * @param {string} given
 * @param {readonly string[]} known
 */
function invalid (message, given, known) {
  const nearest = known.find((candidate) => given !== '' && distance(given, candidate) <= 2)
  return new SetupError('MARTY_SETUP_ARGUMENT_INVALID', message + (nearest === undefined ? '.' : `. Did you mean ${nearest}?`), {
    remedy: `Known: ${known.join(', ')}. See --help.`
  })
}

/**
 * @param {string} a
 * @param {string} b
 * @returns {number} how many letters must be added, dropped or changed to make b of a
 */
function distance (a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = Number(row[j - 1]) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(change, Number(row[j]) + 1, Number(next[j - 1]) + 1))
    }
    row = next
  }
  return Number(row[b.length])
}

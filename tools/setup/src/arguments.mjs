import { SetupError } from './errors.mjs'

const PURPOSES = /** @type {const} */ (['start', 'test', 'v4l2'])
const OPTIONS = ['--for', '--json', '--help']

export const HELP = `Usage: node tools/setup/setup.mjs [--for start|test|v4l2] [--json]

Prepares this machine: checks Node, installs the npm dependencies, finds or installs the system parts,
finds, downloads or builds MediaMTX, and compiles the TypeScript sources. Does not change what is already installed.

  --for start   the parts that the service needs: ffmpeg, v4l-utils, MediaMTX (the default). If setup cannot
                provide one of them, it only warns, and the service starts degraded
  --for test    the parts that the tests need: also redis-server and Chromium. A missing part is an error
  --for v4l2    the parts that the camera tests in a virtual machine need: also QEMU, cpio, busybox-static, kmod
  --json        print a JSON report on standard output, and the progress on standard error
  --help        print this help

As root on Debian or Ubuntu, setup installs missing parts with apt-get. Otherwise it prints the command to run.

Environment:
  MEDIAMTX_BIN              path of the MediaMTX binary to use
  MARTY_MEDIAMTX_RELEASES   another address for the MediaMTX releases, with the same layout as the official one
  NO_COLOR                  turns colours off

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
 * @returns {number} the number of letters to add, remove or change to turn a into b
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

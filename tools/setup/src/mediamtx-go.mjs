import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { findOnPath, run } from './command.mjs'
import { SetupError } from './errors.mjs'
import { readVersions } from './node-version.mjs'
import { compareVersions } from './version.mjs'

const PACKAGE = 'github.com/bluenviron/mediamtx'
const MODULE_FOLDER = fileURLToPath(new URL('../mediamtx/', import.meta.url))

/**
 * Builds MediaMTX from its published Go module, pinned by the committed go.mod and go.sum.
 *
 * The module lacks two files that its sources embed and that its authors generate before a release. The compiler gets
 * both as an overlay, so the sources themselves stay unchanged.
 *
 * @param {object} options
 * @param {string} options.version without a leading `v`
 * @param {string} options.folder an empty folder to work in; the caller removes it
 * @param {string} options.binary file name of the built program
 * @param {string} options.root root of the checkout, whose node_modules contain hls.js
 * @param {NodeJS.ProcessEnv} [options.env] Default: process.env.
 * @param {(text: string) => void} [options.say]
 * @returns {Promise<string>} path of the program, inside `folder`
 * @throws {SetupError} MARTY_SETUP_GO_MISSING, MARTY_SETUP_GO_TOO_OLD, MARTY_SETUP_GO_FAILED
 */
export async function buildWithGo ({ version, folder, binary, root, env = process.env, say = () => {} }) {
  const go = findOnPath('go', env)
  const { minimum } = readVersions().go
  if (go === undefined) throw new SetupError('MARTY_SETUP_GO_MISSING', `go is not on PATH; Go >= ${minimum} is required`)
  await checkGo(go, minimum, env)
  const hlsScript = await findHlsScript(root)

  await Promise.all(['go.mod', 'go.sum'].map((name) => copyFile(path.join(MODULE_FOLDER, name), path.join(folder, name))))
  const goEnv = { ...env, CGO_ENABLED: '0', GOWORK: 'off', GO111MODULE: 'on' }
  /** @type {(what: string, args: string[], onLine: (line: string) => void) => Promise<string>} */
  const runGo = async (what, args, onLine) => {
    const result = await run(go, args, { cwd: folder, env: goEnv, onLine })
    if (result.code !== 0) {
      throw new SetupError('MARTY_SETUP_GO_FAILED', `${what} failed`, { output: withoutProgress(result.output) })
    }
    return result.output
  }

  say('go mod vendor')
  // Without -e, the two missing files would make this command fail. Any other missing file stops the build below.
  await runGo('go mod vendor', ['mod', 'vendor', '-e'], (line) => say(`go mod vendor: ${line.slice(0, 60)}`))
  const overlay = await writeOverlay(folder, version, hlsScript)
  const flags = ['-mod=vendor', '-trimpath', '-buildvcs=false', '-overlay', overlay]
  const packages = await runGo('go list', ['list', ...flags, '-deps', PACKAGE], () => {})
  const total = packages.trim().split('\n').length

  let compiled = 0
  const program = path.join(folder, binary)
  say('go build')
  await runGo('go build', ['build', '-v', ...flags, '-o', program, PACKAGE], (line) => {
    if (isProgress(line)) say(`go build: ${++compiled} of at most ${total} packages`)
  })
  return program
}

/**
 * Go 1.21 and later download a newer toolchain automatically, unless GOTOOLCHAIN=local forbids it.
 *
 * @param {string} go
 * @param {string} minimum
 * @param {NodeJS.ProcessEnv} env
 */
async function checkGo (go, minimum, env) {
  // Run in a folder without go.mod, so that the installed Go reports its own version.
  const result = await run(go, ['env', 'GOVERSION', 'GOTOOLCHAIN'], { cwd: os.tmpdir(), env: { ...env, GOWORK: 'off' } })
  const [version = '', toolchain = ''] = result.output.trim().split('\n')
  if (result.code !== 0 || !/^go\d/.test(version)) {
    throw new SetupError('MARTY_SETUP_GO_FAILED', `${go} does not report its version`, { output: result.output })
  }
  const number = version.slice('go'.length)
  if (compareVersions(number, minimum) >= 0) return
  if (compareVersions(number, '1.21') >= 0 && toolchain !== 'local') return
  throw new SetupError('MARTY_SETUP_GO_TOO_OLD', `Go ${number} is too old: Go >= ${minimum} is required` +
    (toolchain === 'local' ? ', and GOTOOLCHAIN=local forbids downloading it' : ''))
}

/**
 * @param {string} root
 * @returns {Promise<string>}
 */
async function findHlsScript (root) {
  const { version } = readVersions()['hls.js']
  const resolve = createRequire(path.join(root, 'tools', 'setup', 'package.json')).resolve
  try {
    const manifest = JSON.parse(await readFile(resolve('hls.js/package.json'), 'utf8'))
    if (manifest.version === version) return resolve('hls.js/dist/hls.min.js')
    throw new Error(`hls.js ${manifest.version} is installed`)
  } catch (cause) {
    const { message } = /** @type {Error} */ (cause)
    throw new SetupError('MARTY_SETUP_GO_FAILED', `the build needs hls.js ${version} from npm: ${message}`, { cause })
  }
}

/**
 * @param {string} folder
 * @param {string} version
 * @param {string} hlsScript
 * @returns {Promise<string>}
 */
async function writeOverlay (folder, version, hlsScript) {
  const generated = path.join(folder, 'generated')
  await mkdir(generated)
  await writeFile(path.join(generated, 'VERSION'), `v${version}\n`)
  const internal = path.join(folder, 'vendor', ...PACKAGE.split('/'), 'internal')
  const overlay = path.join(folder, 'overlay.json')
  await writeFile(overlay, JSON.stringify({
    Replace: {
      [path.join(internal, 'core', 'VERSION')]: path.join(generated, 'VERSION'),
      [path.join(internal, 'servers', 'hls', 'hls.min.js')]: hlsScript
    }
  }))
  return overlay
}

/**
 * @param {string} output
 */
function withoutProgress (output) {
  return output.split('\n').filter((line) => !isProgress(line)).join('\n')
}

/**
 * `go build -v` prints the name of each package that it compiles on a separate line.
 *
 * @param {string} line
 */
function isProgress (line) {
  return /^[\w.\-/~]+$/.test(line)
}

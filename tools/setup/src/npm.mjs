import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { isDeepStrictEqual } from 'node:util'
import { findOnPath, run } from './command.mjs'
import { SetupError } from './errors.mjs'
import { readStamp, writeStamp } from './stamp.mjs'

const DEPENDENCY_FIELDS = ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies']

/**
 * Installs in `node_modules` what `package-lock.json` lists. Runs `npm ci` only if both are true: the lockfile or a
 * package.json has changed since the last time, and the tree that npm recorded in `node_modules/.package-lock.json`
 * differs from the lockfile.
 *
 * @param {{ root: string, env?: NodeJS.ProcessEnv, say?: (text: string) => void }} options
 * @returns {Promise<'unchanged' | 'already installed' | 'installed'>}
 * @throws {SetupError} MARTY_SETUP_LOCKFILE_STALE, MARTY_SETUP_NPM_FAILED
 */
export async function installDependencies ({ root, env = process.env, say = () => {} }) {
  const lockFile = path.join(root, 'package-lock.json')
  if (!existsSync(lockFile)) {
    throw new SetupError('MARTY_SETUP_LOCKFILE_STALE', `There is no ${lockFile}.`, { remedy: 'npm install' })
  }
  const manifests = findManifests(root)
  const fingerprint = fingerprintOf([lockFile, ...manifests])
  const installedFile = path.join(root, 'node_modules', '.package-lock.json')
  if (existsSync(installedFile) && readStamp(root, 'npm') === fingerprint) return 'unchanged'

  const locked = readJson(lockFile).packages ?? {}
  refuseStaleLock(root, manifests, locked)
  let outcome = /** @type {'already installed' | 'installed'} */ ('already installed')
  if (!existsSync(installedFile) || !isInstalled(locked, readJson(installedFile).packages ?? {})) {
    say('npm ci')
    await runNpmCi(root, env, say)
    outcome = 'installed'
  }
  writeStamp(root, 'npm', fingerprint)
  return outcome
}

/**
 * @param {string} root
 * @param {NodeJS.ProcessEnv} env
 * @param {(text: string) => void} say
 */
async function runNpmCi (root, env, say) {
  const { command, args } = findNpm(env)
  // The compiler and the linter are development dependencies: NODE_ENV=production must not omit them.
  // Under `npm -s`, this npm would be silent too and would not print the reason of a failure.
  const result = await run(command, [...args, 'ci', '--include=dev', '--loglevel=notice'], {
    cwd: root,
    env,
    onLine: (line) => { if (/^(?!npm warn)\S/.test(line)) say(`npm ci: ${line.slice(0, 60)}`) }
  })
  if (result.code === 0) return
  throw new SetupError('MARTY_SETUP_NPM_FAILED', 'npm could not install the dependencies.', {
    output: result.output,
    remedy: `cd ${root} && npm ci`
  })
}

/**
 * When `npm start` runs setup, uses the same npm, which need not be on PATH.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {{ command: string, args: string[] }}
 */
function findNpm (env) {
  const current = env.npm_execpath ?? ''
  if (path.basename(current) === 'npm-cli.js' && existsSync(current)) {
    return { command: process.execPath, args: [current] }
  }
  const beside = path.resolve(path.dirname(process.execPath), 'node_modules/npm/bin/npm-cli.js')
  if (process.platform === 'win32' && existsSync(beside)) return { command: process.execPath, args: [beside] }
  return { command: findOnPath('npm', env) ?? 'npm', args: [] }
}

/**
 * Throws when a package.json requires a dependency that the lockfile does not contain. `npm ci` would refuse it too,
 * but later and with a less clear message. Like npm, accepts two other differences: a dependency that no package.json
 * requires any more, and a dependency on another workspace, which npm links whatever the lockfile says.
 *
 * @param {string} root
 * @param {readonly string[]} manifests
 * @param {Record<string, any>} locked
 */
function refuseStaleLock (root, manifests, locked) {
  const differences = []
  for (const file of manifests) {
    const folder = path.relative(root, path.dirname(file)).replaceAll('\\', '/')
    const shown = path.relative(root, file)
    const known = locked[folder]
    if (known === undefined) {
      differences.push(`${shown} is not in the lockfile`)
      continue
    }
    const manifest = readJson(file)
    for (const field of DEPENDENCY_FIELDS) {
      for (const [name, asked] of Object.entries(manifest[field] ?? {})) {
        const has = known[field]?.[name]
        if (asked !== has && locked[`node_modules/${name}`]?.link !== true) {
          differences.push(`${shown}, ${field}: requires ${name} ${asked}, but the lockfile has ${has ?? 'none'}`)
        }
      }
    }
  }
  if (differences.length === 0) return
  throw new SetupError('MARTY_SETUP_LOCKFILE_STALE',
    `package-lock.json is out of date:\n${differences.join('\n')}`, { remedy: 'npm install' })
}

/**
 * @param {Record<string, any>} locked
 * @param {Record<string, any>} installed as npm recorded it; only packages for other platforms may be missing
 * @returns {boolean}
 */
function isInstalled (locked, installed) {
  return Object.entries(locked).every(([folder, wanted]) => {
    if (folder === '') return true
    const present = installed[folder]
    if (present === undefined) return wanted.optional === true || wanted.devOptional === true
    return ['version', 'resolved', 'integrity', 'link'].every((key) => isDeepStrictEqual(present[key], wanted[key]))
  })
}

/**
 * @param {string} root
 * @returns {string[]} the package.json of the root and of every workspace. Supports the folder patterns `name` and
 *   `name/*`: this project uses no other pattern that npm allows.
 */
function findManifests (root) {
  const manifest = path.join(root, 'package.json')
  /** @type {string[]} */
  const patterns = readJson(manifest).workspaces ?? []
  const folders = patterns.flatMap((pattern) => {
    if (!pattern.endsWith('/*')) return [pattern]
    const parent = pattern.slice(0, -2)
    const full = path.join(root, parent)
    return existsSync(full) ? readdirSync(full).sort().map((name) => `${parent}/${name}`) : []
  })
  return [manifest, ...folders.map((folder) => path.join(root, folder, 'package.json')).filter((file) => existsSync(file))]
}

/**
 * @param {readonly string[]} files
 * @returns {string}
 */
function fingerprintOf (files) {
  const hash = createHash('sha256')
  for (const file of files) hash.update(`${file}\0`).update(readFileSync(file)).update('\0')
  return hash.digest('hex')
}

/**
 * @param {string} file
 * @returns {Record<string, any>}
 */
function readJson (file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'))
  } catch (cause) {
    const { message } = /** @type {Error} */ (cause)
    throw new SetupError('MARTY_SETUP_LOCKFILE_STALE', `${file} is not readable as JSON: ${message}`, { cause })
  }
}

import { chmod, copyFile, mkdir, mkdtemp, readdir, readlink, rename, rm, stat, symlink } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { findOnPath, run } from './command.mjs'
import { SetupError } from './errors.mjs'
import { isAlive } from './lock.mjs'
import { downloadRelease, platformName } from './mediamtx-release.mjs'
import { buildWithGo } from './mediamtx-go.mjs'
import { readVersions } from './node-version.mjs'
import { compareVersions } from './version.mjs'

const ANSWER_MS = 5_000
const ABANDONED_MS = 60 * 60 * 1000
const BINARY = process.platform === 'win32' ? 'mediamtx.exe' : 'mediamtx'

/**
 * @typedef {object} MediaMtx
 * @property {string} path of a binary that has just answered `--version`
 * @property {string} version as the binary reports it, without a leading `v`
 * @property {'MEDIAMTX_BIN' | 'PATH' | 'cache' | 'release' | 'go'} source
 * @property {string[]} passedOver candidates that come earlier in the order, and why they were not used
 */

/**
 * Finds MediaMTX, in this order: `MEDIAMTX_BIN`; `mediamtx` on PATH; the local cache; the official release; a Go build.
 * The last two store the binary in the cache and make `.cache/mediamtx/bin/mediamtx` point to it.
 *
 * @param {object} options
 * @param {string} options.root root of the checkout
 * @param {NodeJS.ProcessEnv} [options.env] If `MEDIAMTX_BIN` is set, only this binary is tried.
 *   `MARTY_MEDIAMTX_RELEASES` replaces the address of the releases. Default: process.env.
 * @param {boolean} [options.build] whether to download or build MediaMTX if none is found. Default: true.
 * @param {(text: string) => void} [options.say] called with the current activity
 * @returns {Promise<MediaMtx>}
 * @throws {SetupError} MARTY_SETUP_MEDIAMTX_UNUSABLE when the binary in `MEDIAMTX_BIN` does not work,
 *   MARTY_SETUP_MEDIAMTX_MISSING when every other way failed
 */
export async function findMediaMtx ({ root, env = process.env, build = true, say = () => {} }) {
  const { version } = readVersions().mediamtx
  const cacheFolder = path.join(root, '.cache', 'mediamtx')
  const cached = path.join(cacheFolder, `v${version}-${platformName()}`, BINARY)
  /** @type {string[]} */
  const passedOver = []

  const named = env.MEDIAMTX_BIN ?? ''
  if (named !== '') {
    const answer = await askVersion(path.resolve(named))
    if (answer.version !== undefined) return { path: path.resolve(named), version: answer.version, source: 'MEDIAMTX_BIN', passedOver }
    throw new SetupError('MARTY_SETUP_MEDIAMTX_UNUSABLE', `MEDIAMTX_BIN=${named}: ${answer.reason}.`, {
      remedy: 'Set MEDIAMTX_BIN to the path of a working MediaMTX, or unset it so that setup looks for one.'
    })
  }

  const onPath = findOnPath('mediamtx', env)
  for (const [source, file] of /** @type {const} */ ([['PATH', onPath], ['cache', cached]])) {
    if (file === undefined || !existsSync(file)) continue
    const answer = await askVersion(file)
    if (answer.version !== undefined) {
      if (source === 'cache') await pointTo(cacheFolder, file)
      return { path: file, version: answer.version, source, passedOver }
    }
    passedOver.push(`${file}: ${answer.reason}`)
  }

  if (build) {
    await removeAbandoned(cacheFolder)
    for (const way of /** @type {const} */ (['release', 'go'])) {
      try {
        const answered = await fetchInto(cached, way)
        await pointTo(cacheFolder, cached)
        return { path: cached, version: answered, source: way, passedOver }
      } catch (error) {
        if (!(error instanceof SetupError)) throw error
        passedOver.push([`${way}: ${error.message}`, error.output?.trimEnd()].filter(Boolean).join('\n'))
      }
    }
  }
  throw missing(passedOver)

  /**
   * Works in a separate folder in the cache. Moves the binary to its final path in one step, after the binary is
   * finished and has answered. So concurrent setups do not disturb each other, and no one finds an unfinished binary.
   *
   * @param {string} target
   * @param {'release' | 'go'} way
   * @returns {Promise<string>} the version that the binary reports
   */
  async function fetchInto (target, way) {
    await mkdir(cacheFolder, { recursive: true })
    const folder = await mkdtemp(path.join(cacheFolder, `unfinished-${process.pid}-`))
    try {
      const request = { version, folder, binary: BINARY, env, say }
      const file = way === 'release' ? await downloadRelease(request) : await buildWithGo({ ...request, root })
      await chmod(file, 0o755)
      const answer = await askVersion(file)
      if (answer.version === undefined) throw new SetupError('MARTY_SETUP_MEDIAMTX_UNUSABLE', `the new binary ${answer.reason}.`)
      await mkdir(path.dirname(target), { recursive: true })
      await rename(file, target)
      return answer.version
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
}

/**
 * Starts a binary once with `--version`. The binary must answer within 5 s with a version that is new enough.
 *
 * @param {string} file
 * @returns {Promise<{ version: string, reason?: undefined } | { version?: undefined, reason: string }>}
 */
async function askVersion (file) {
  const { minimum } = readVersions().mediamtx
  const result = await run(file, ['--version'], { timeoutMs: ANSWER_MS })
  if (result.timedOut) return { reason: `does not answer --version within ${ANSWER_MS / 1000} s` }
  const version = /^v?(\d+\.\d+\.\d+)\S*\s*$/.exec(result.output)?.[1]
  if (result.code !== 0 || version === undefined) {
    const said = result.output.trim().split('\n')[0]?.slice(0, 200) ?? ''
    return { reason: `does not answer --version with a version (exit code ${result.code}${said === '' ? '' : `: ${said}`})` }
  }
  if (compareVersions(version, minimum) < 0) return { reason: `reports version ${version}, but at least ${minimum} is required` }
  return { version }
}

/**
 * Gives the cached binary a path that is the same for every version.
 *
 * @param {string} cacheFolder
 * @param {string} binary
 */
async function pointTo (cacheFolder, binary) {
  const link = path.join(cacheFolder, 'bin', BINARY)
  const target = path.relative(path.dirname(link), binary)
  const draft = `${link}.${process.pid}`
  await mkdir(path.dirname(link), { recursive: true })
  if (process.platform === 'win32') {
    if (existsSync(link) && (await stat(link)).mtimeMs >= (await stat(binary)).mtimeMs) return
    await copyFile(binary, draft)
  } else {
    if (await readlink(link).catch(() => undefined) === target) return
    await rm(draft, { force: true })
    await symlink(target, draft)
  }
  await rename(draft, link)
}

/**
 * Removes the folders that killed setups left behind: each has 60 MB, and nothing else removes it.
 *
 * @param {string} cacheFolder
 */
async function removeAbandoned (cacheFolder) {
  const names = await readdir(cacheFolder).catch(() => [])
  for (const name of names) {
    const pid = /^unfinished-(\d+)-/.exec(name)?.[1]
    if (pid === undefined) continue
    const folder = path.join(cacheFolder, name)
    const age = await stat(folder).then(({ mtimeMs }) => Date.now() - mtimeMs, () => 0)
    if (age > ABANDONED_MS || !isAlive(Number(pid))) await rm(folder, { recursive: true, force: true })
  }
}

/**
 * @param {readonly string[]} passedOver
 */
function missing (passedOver) {
  const { mediamtx, go } = readVersions()
  return new SetupError('MARTY_SETUP_MEDIAMTX_MISSING', 'MediaMTX is not available on this machine.', {
    output: passedOver.join('\n'),
    remedy: `Install MediaMTX >= ${mediamtx.minimum} from https://github.com/bluenviron/mediamtx/releases and put it on PATH, ` +
      `or set MEDIAMTX_BIN to its path; or install Go >= ${go.minimum} from https://go.dev/dl/. Then run this again.`
  })
}

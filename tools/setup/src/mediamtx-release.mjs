import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { lstat } from 'node:fs/promises'
import path from 'node:path'
import process from 'node:process'
import { Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { run } from './command.mjs'
import { SetupError } from './errors.mjs'

const OFFICIAL = 'https://github.com/bluenviron/mediamtx/releases/download'
// Time limit for the first, small file. If the network does not reach the server, setup waits no longer than this.
const REACH_MS = 5_000
const STALL_MS = 20_000
const CHECKSUMS_BOUND = 64 * 1024
const ARCHIVE_BOUND = 256 * 1024 * 1024

/**
 * Downloads the official archive of one release, verifies it against the checksums that the release publishes, and
 * unpacks it.
 *
 * @param {object} options
 * @param {string} options.version without a leading `v`
 * @param {string} options.folder an empty folder to work in; the caller removes it
 * @param {string} options.binary name of the program inside the archive
 * @param {NodeJS.ProcessEnv} [options.env] `MARTY_MEDIAMTX_RELEASES`: another base address. Default: process.env.
 * @param {(text: string) => void} [options.say]
 * @returns {Promise<string>} path of the unpacked program, inside `folder`
 * @throws {SetupError} MARTY_SETUP_MEDIAMTX_UNREACHABLE when the download fails, MARTY_SETUP_MEDIAMTX_REFUSED when the
 * downloaded data is not the published release
 */
export async function downloadRelease ({ version, folder, binary, env = process.env, say = () => {} }) {
  const base = releaseAddress(env)
  const archive = `mediamtx_v${version}_${platformName().replace('-', '_')}.${process.platform === 'win32' ? 'zip' : 'tar.gz'}`
  say(`requesting the release from ${new URL(base).host}`)
  const published = await fetchChecksums(`${base}/v${version}/checksums.sha256`)
  const wanted = findChecksum(published, archive)

  const file = path.join(folder, archive)
  const actual = await fetchArchive(`${base}/v${version}/${archive}`, file, say)
  if (actual !== wanted) {
    throw refused(`${archive} has the SHA-256 ${actual}, but the release publishes ${wanted}`)
  }
  say(`unpacking ${archive}`)
  const unpacked = await run('tar', ['-xf', archive, binary], { cwd: folder })
  if (unpacked.code !== 0) throw refused(`${archive} cannot be unpacked`, unpacked.output)
  const program = path.join(folder, binary)
  if (!(await lstat(program)).isFile()) throw refused(`${binary} in ${archive} is not a regular file`)
  return program
}

/**
 * The name that MediaMTX releases use for the platform of this machine.
 *
 * @returns {string} for example `linux-amd64`
 */
export function platformName () {
  const os = process.platform === 'win32' ? 'windows' : process.platform
  const architectures = /** @type {Record<string, string>} */ ({ x64: 'amd64', arm: 'armv7', arm64: 'arm64' })
  return `${os}-${architectures[process.arch] ?? process.arch}`
}

/**
 * The base address of the releases. Plain HTTP is allowed only for this machine: a checksum proves nothing if it comes
 * over the same unprotected connection as the archive.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {string}
 */
function releaseAddress (env) {
  const given = env.MARTY_MEDIAMTX_RELEASES ?? ''
  if (given === '') return OFFICIAL
  const url = URL.canParse(given) ? new URL(given) : undefined
  const local = url?.protocol === 'http:' && ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname)
  if (url?.protocol !== 'https:' && !local) {
    throw new SetupError('MARTY_SETUP_MEDIAMTX_UNREACHABLE',
      `MARTY_MEDIAMTX_RELEASES must be an https address (http only for this machine), not ${JSON.stringify(given)}`)
  }
  return given.replace(/\/+$/, '')
}

/**
 * @param {string} url
 * @returns {Promise<string>}
 */
async function fetchChecksums (url) {
  try {
    const response = await open(url, AbortSignal.timeout(REACH_MS))
    let text = ''
    for await (const chunk of Readable.fromWeb(/** @type {any} */ (response.body)).setEncoding('utf8')) {
      text += chunk
      if (text.length > CHECKSUMS_BOUND) throw refused(`${url} is larger than ${CHECKSUMS_BOUND} bytes`)
    }
    return text
  } catch (error) {
    throw explain(error, url)
  }
}

/**
 * @param {string} published lines of the form `hash *name`
 * @param {string} archive
 * @returns {string}
 */
function findChecksum (published, archive) {
  for (const line of published.split(/\r?\n/)) {
    const match = /^([0-9a-f]{64}) [ *](.+)$/i.exec(line)
    if (match?.[1] !== undefined && match[2] === archive) return match[1].toLowerCase()
  }
  throw refused(`checksums.sha256 has no line for ${archive}`)
}

/**
 * @param {string} url
 * @param {string} file
 * @param {(text: string) => void} say
 * @returns {Promise<string>} its SHA-256
 */
async function fetchArchive (url, file, say) {
  const stalled = new AbortController()
  const timer = setTimeout(() => stalled.abort(new Error(`no data arrived for ${STALL_MS / 1000} s`)), STALL_MS)
  const hash = createHash('sha256')
  let size = 0
  try {
    const response = await open(url, stalled.signal)
    const total = Number(response.headers.get('content-length') ?? 0)
    const count = new Transform({
      transform (chunk, _encoding, done) {
        timer.refresh()
        size += chunk.length
        hash.update(chunk)
        const part = total > 0 ? `${Math.floor(size / total * 100)} %` : `${Math.floor(size / 1e6)} MB`
        say(`downloading ${path.basename(file)}: ${part}`)
        done(size > ARCHIVE_BOUND ? refused(`${url} is larger than ${ARCHIVE_BOUND} bytes`) : null, chunk)
      }
    })
    await pipeline(Readable.fromWeb(/** @type {any} */ (response.body)), count, createWriteStream(file))
    return hash.digest('hex')
  } catch (error) {
    throw explain(error, url)
  } finally {
    clearTimeout(timer)
  }
}

/**
 * @param {string} url
 * @param {AbortSignal} signal
 */
async function open (url, signal) {
  const response = await fetch(url, { signal })
  if (response.ok) return response
  await response.body?.cancel()
  throw new Error(`HTTP status ${response.status}`)
}

/**
 * @param {unknown} error
 * @param {string} url
 */
function explain (error, url) {
  if (error instanceof SetupError) return error
  const { message, cause } = /** @type {Error} */ (error)
  const reason = cause instanceof Error ? `${message} (${cause.message || /** @type {any} */ (cause).code})` : message
  return new SetupError('MARTY_SETUP_MEDIAMTX_UNREACHABLE', `${url} cannot be downloaded: ${reason}`, { cause: error })
}

/**
 * @param {string} message
 * @param {string} [output]
 */
function refused (message, output) {
  return new SetupError('MARTY_SETUP_MEDIAMTX_REFUSED', `refused: ${message}`, output === undefined ? {} : { output })
}

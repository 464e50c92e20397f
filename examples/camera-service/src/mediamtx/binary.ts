import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { childEnvironment } from '../process/environment.js'

/** A MediaMTX program with a supported version. */
export interface MediaMtxBinary { readonly path: string, readonly version: string }

/** The result of a search. `binary` is null, with the reasons in `tried`, when no usable program was found. */
export interface MediaMtxSearch { readonly binary: MediaMtxBinary | null, readonly tried: readonly string[] }

/** Oldest MediaMTX version whose Control API has the fields that we read. */
const MINIMUM = [1, 17] as const
const VERSION_TIMEOUT_MS = 10_000

/**
 * Finds MediaMTX: only the configured path if there is one, otherwise `mediamtx` on the search path, then the copy that
 * setup has built or downloaded.
 */
export async function findMediaMtx (configured: string, searchPath: string, setupDir: string): Promise<MediaMtxSearch> {
  const tried: string[] = []
  for (const path of candidates(configured, searchPath, setupDir)) {
    if (!await isExecutable(path)) {
      if (path === configured) tried.push(`${path} does not exist or is not executable`)
      continue
    }
    const result = await checkVersion(path)
    if (typeof result !== 'string') return { binary: result, tried }
    tried.push(result)
  }
  return { binary: null, tried }
}

function candidates (configured: string, searchPath: string, setupDir: string): string[] {
  if (configured !== '') return [configured]
  const folders = [...searchPath.split(delimiter).filter(folder => folder !== ''), setupDir]
  return folders.map(folder => join(folder, 'mediamtx'))
}

async function isExecutable (path: string): Promise<boolean> {
  return await access(path, constants.X_OK).then(() => true, () => false)
}

/** Returns the program, or why it cannot be used. */
async function checkVersion (path: string): Promise<MediaMtxBinary | string> {
  const run = promisify(execFile)
  const output = await run(path, ['--version'], { timeout: VERSION_TIMEOUT_MS, env: childEnvironment() })
    .then(({ stdout }) => stdout, () => null)
  if (output === null) return `${path} does not respond to --version`
  const version = /v?(\d+)\.(\d+)\.(\d+)/.exec(output)
  if (version !== null && isSupported(Number(version[1]), Number(version[2]))) return { path, version: version[0] }
  return `${path} is ${version?.[0] ?? 'of an unknown version'}; at least v${MINIMUM.join('.')}.0 is needed`
}

function isSupported (major: number, minor: number): boolean {
  return major > MINIMUM[0] || (major === MINIMUM[0] && minor >= MINIMUM[1])
}

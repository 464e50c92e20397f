import { watch, type BigIntStats, type FSWatcher } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PolicyInvalid } from '../errors.js'
import { problemOf, type PolicyOrigin } from './origin.js'
import { MAX_FILE_BYTES, tooLarge } from '../parse/policy.js'

/**
 * How long a file must stay unchanged. Programs that write a file in parts, or replace it, are done within
 * this time, even on a busy machine.
 */
const SETTLE_MS = 500

/**
 * Follows a policy file and its test file. The folder is watched instead of the file, because editors
 * replace a file with a new one, and Kubernetes switches a symbolic link next to it. Changes that the
 * watcher misses are found by polling.
 */
export function fileOrigin (file: string, tests: string | null, pollMs: number): PolicyOrigin {
  const folder = dirname(file)
  let watcher: FSWatcher | null = null
  let watchedFolder = ''
  let report: (() => void) | null = null

  const stop = (): void => {
    watcher?.close()
    watcher = null
  }
  // A folder that was deleted and created again is a new one, which the old watcher does not see.
  const followFolder = async (): Promise<void> => {
    const identity = await identityOf(folder, FOLDER)
    if (report === null || (identity === watchedFolder && watcher !== null)) return
    stop()
    watchedFolder = identity
    try {
      watcher = watch(folder, { persistent: false }, report).on('error', stop)
    } catch {
      // The folder does not exist at the moment, or the system limit for watchers is reached: polling
      // continues.
    }
  }
  return {
    pollMs,
    settleMs: SETTLE_MS,
    async identify () {
      await followFolder()
      return (
        await Promise.all([file, ...(tests === null ? [] : [tests])].map(async name => await identityOf(name, FILE)))
      ).join(' ')
    },
    listen (callback) {
      report = callback
      return () => {
        report = null
        stop()
      }
    },
    read: async () => ({ ...await readText(file), sha256: null, generation: 0 })
  }
}

const FOLDER = ['dev', 'ino'] as const
const FILE = [...FOLDER, 'size', 'mtimeNs', 'ctimeNs'] as const

async function identityOf (path: string, members: ReadonlyArray<typeof FILE[number]>): Promise<string> {
  try {
    return identify(await stat(path, { bigint: true }), members)
  } catch (error) {
    return reasonOf(error)
  }
}

function identify (stats: BigIntStats, members: ReadonlyArray<typeof FILE[number]>): string {
  return members.map(member => stats[member]).join(':')
}

/** Reads a policy file or its test file. Throws {@link PolicyInvalid} if it cannot be one. */
export async function readText (file: string): Promise<{ readonly bytes: Buffer, readonly file: string }> {
  const refuse = (reason: string): never => { throw new PolicyInvalid([problemOf(file, `cannot be read: ${reason}`)]) }
  try {
    const stats = await stat(file, { bigint: true })
    // Reading from a pipe would wait for its writer.
    if (!stats.isFile()) return refuse(stats.isDirectory() ? 'it is a folder' : 'it is no file')
    if (stats.size > MAX_FILE_BYTES) throw new PolicyInvalid([tooLarge(file, Number(stats.size))])
    const bytes = await readFile(file)
    // Half of a policy may be a valid policy that allows more.
    if (identify(stats, FILE) !== await identityOf(file, FILE)) return refuse('it was changed meanwhile')
    return { bytes, file }
  } catch (error) {
    if (error instanceof PolicyInvalid) throw error
    return refuse(reasonOf(error))
  }
}

function reasonOf (error: unknown): string {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' ? 'there is no such file' : code ?? 'unknown reason'
}

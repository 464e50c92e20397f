import { mkdir, statfs } from 'node:fs/promises'
import { StorageFull } from './errors.js'

export interface StorageFacts {
  readonly totalBytes: number
  readonly availableBytes: number
  /** Percentage of the file system in use, as an unprivileged user sees it. */
  readonly usedPercent: number
}

/** The file system that stores the files. */
export interface Storage {
  measure (): Promise<StorageFacts>
  /** Throws `MARTY_CAMERA_STORAGE_FULL` when storing more is blocked. */
  assertSpace (): Promise<void>
  readonly warnPercent: number
  readonly blockPercent: number
}

export function useStorage (folder: string, warnPercent: number, blockPercent: number): Storage {
  const measure = async (): Promise<StorageFacts> => {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const { blocks, bfree, bavail, bsize } = await statfs(folder)
    const used = blocks - bfree
    return {
      totalBytes: blocks * bsize,
      availableBytes: bavail * bsize,
      usedPercent: used + bavail === 0 ? 100 : used / (used + bavail) * 100
    }
  }
  return {
    warnPercent,
    blockPercent,
    measure,
    async assertSpace () {
      const { availableBytes, usedPercent } = await measure()
      if (usedPercent >= blockPercent) {
        throw new StorageFull({
          data: {
            available_space: availableBytes,
            usage_percentage: Math.round(usedPercent),
            limit_percentage: blockPercent
          }
        })
      }
    }
  }
}

/** Converts errors of a disk that accepts no more data into `StorageFull`. Returns any other error unchanged. */
export function asStorageError (error: unknown): unknown {
  const code = String((error as { code?: unknown } | null)?.code)
  return ['ENOSPC', 'EDQUOT', 'EROFS'].includes(code) || /^SQLITE_(FULL|READONLY|IOERR)/.test(code)
    ? new StorageFull({ cause: error })
    : error
}

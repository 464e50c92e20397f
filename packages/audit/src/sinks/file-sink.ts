import { access, mkdir, open, rename, stat, type FileHandle } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { follows, GENESIS, openRecord, type ChainHead, type OpenedRecord } from '../chain.js'
import { AuditFileInvalid } from '../errors.js'
import { endOf, firstRecordOf, lastRecordOf, logFiles, rotatedName } from './log-files.js'
import { isOrderlyEnd } from '../own-records.js'
import type { AuditSink, ResumePoint } from './sink.js'

/** When the sink starts a new file. */
export interface AuditRotation {
  /** Starts a new file before the current one would exceed this size. @default 104857600 (100 MiB) */
  readonly maxBytes?: number
  /** Starts a new file when the first record of the current one is this old. @default 86400 (1 day) */
  readonly maxAgeSeconds?: number
}

export interface AuditRetention {
  /** Files whose last record is older than this are deleted. @default 31536000 (365 days) */
  readonly maxAgeSeconds?: number
}

export interface FileSinkOptions {
  readonly file: string
  /**
   * `sync`: on disk before a write settles. `async`: passed to the operating system, on disk when the sink is closed.
   */
  readonly mode: 'sync' | 'async'
  /**
   * A full or old file is renamed to `<name>-<number of its first record>.<ext>`, and the chain continues in a new
   * file. `false` disables rotation.
   * @default { maxBytes: 104857600, maxAgeSeconds: 86400 }
   */
  readonly rotate?: AuditRotation | false
  /** Deletes whole rotated files, and records this in the log. @default nothing is deleted */
  readonly retention?: AuditRetention
}

export interface FileSinkSettings {
  readonly file: string
  readonly mode: 'sync' | 'async'
  readonly rotate: Required<AuditRotation> | false
  /** Called when a file is complete, durable and renamed; `head` is its last record. */
  readonly onRotated: (head: ChainHead) => Promise<void>
  /** Called when a file could not be renamed; writing continues in the same file. */
  readonly onRotateError: (error: unknown) => void
}

interface OpenFile {
  readonly handle: FileHandle
  readonly inode: number
  size: number
  /** The first record; null while there is none. */
  first: { readonly seq: number, readonly time: number } | null
}

/** Appends to a file with mode 0600, and rotates it. Only one process may write to a log at a time. */
export function createFileSink ({ file, mode, rotate, onRotated, onRotateError }: FileSinkSettings): AuditSink {
  const path = resolve(file)
  let current: OpenFile | null = null

  async function opened (): Promise<OpenFile> {
    if (current !== null) return current
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const handle = await open(path, 'a+', 0o600)
    const { ino, size } = await handle.stat()
    current = { handle, inode: ino, size, first: null }
    if (size === 0) await syncFolder()
    return current
  }

  async function dismiss (): Promise<void> {
    const handle = current?.handle
    current = null
    await handle?.close().catch(() => {})
  }

  /** Syncs the directory: without this, a file that was just created or renamed may be lost in a power failure. */
  async function syncFolder (): Promise<void> {
    const folder = await open(dirname(path), 'r')
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  }

  function isFull ({ size, first }: OpenFile, more: number): boolean {
    if (rotate === false || first === null) return false
    return size + more > rotate.maxBytes || Date.now() - first.time > rotate.maxAgeSeconds * 1000
  }

  async function beginNewFile (full: OpenFile, head: ChainHead): Promise<OpenFile> {
    const target = rotatedName(path, full.first!.seq)
    try {
      if (await exists(target)) {
        throw new AuditFileInvalid(
          `The audit log cannot be rotated because "${target}" exists already. Move that file away and keep it`
        )
      }
      if (mode === 'async') await full.handle.datasync()
      await rename(path, target)
    } catch (error) {
      onRotateError(error)
      return full
    }
    await dismiss()
    const fresh = await opened()
    await onRotated(head)
    return fresh
  }

  return {
    async resume () {
      // After a failed write the path may lead to a different file: it was moved away, or its disk was mounted again.
      await dismiss()
      const target = await opened()
      const first = await firstRecordOf(path)
      if (first !== null) target.first = { seq: first.head.seq, time: timeOf(first) }
      const { last, torn, whole } = await endOf(target.handle)
      const before = last ?? await beforeFirst(path)
      if (last === null && !(whole && isBeginning(torn))) {
        throw new AuditFileInvalid(
          `The audit file "${path}" does not end with a complete record. Move it away and keep it, then start again`
        )
      }
      // Only the newline is missing: the line is a complete record.
      const unended = openRecord(torn.toString())
      if (unended !== null && follows(unended, before?.head ?? GENESIS)) {
        await target.handle.appendFile('\n')
        target.size++
        return resumeAt(unended, Buffer.alloc(0))
      }
      return resumeAt(before, torn)
    },

    async write (lines, from, to) {
      const bytes = Buffer.from(lines)
      let target = await opened()
      const there = await stat(path).catch(() => null)
      if (there?.ino !== target.inode || there.size !== target.size) {
        throw new AuditFileInvalid(
          `The audit file "${path}" was moved, deleted or changed by another process while the service wrote to it`
        )
      }
      if (isFull(target, bytes.length)) target = await beginNewFile(target, from)
      await target.handle.appendFile(bytes)
      if (mode === 'sync') await target.handle.datasync()
      target.size += bytes.length
      if (to.seq > from.seq) target.first ??= { seq: from.seq + 1, time: Date.now() }
    },

    ...(mode === 'async' ? { sync: async () => { await current?.handle.datasync() } } : {}),

    async close () {
      const handle = current?.handle
      current = null
      if (handle === undefined) return
      try {
        await handle.sync()
      } finally {
        await handle.close()
      }
    }
  }
}

/** The last record of the newest rotated file, for a current file that has no record yet. */
async function beforeFirst (path: string): Promise<OpenedRecord | null> {
  const rotated = (await logFiles(path)).findLast(({ firstSeq }) => firstSeq !== null)
  return rotated === undefined ? null : await lastRecordOf(rotated.path)
}

/** Whether the bytes may be the beginning of the first lines, half written when the process died. */
function isBeginning (bytes: Buffer): boolean {
  const start = '{"seq":'
  return start.startsWith(bytes.toString('latin1', 0, start.length))
}

function resumeAt (last: OpenedRecord | null, torn: Buffer): ResumePoint {
  return { head: last?.head ?? GENESIS, torn, orderly: last === null || isOrderlyEnd(last.record) }
}

function timeOf ({ record }: OpenedRecord): number {
  return new Date(record['time'] as number).getTime()
}

async function exists (path: string): Promise<boolean> {
  return await access(path).then(() => true, () => false)
}

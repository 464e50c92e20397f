import { mkdir, open, type FileHandle } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { GENESIS, openRecord } from './chain.js'
import { AuditFileInvalid } from './errors.js'
import type { AuditSink, ResumePoint } from './sink.js'

export interface FileSinkOptions {
  readonly file: string
  /** `sync`: on disk before a write settles. `async`: handed to the operating system, on disk when closed. */
  readonly mode: 'sync' | 'async'
}

/** Lines are bounded by the recorder; a last record further from the end than this is not looked for. */
const MAX_TAIL_BYTES = 1024 * 1024

/** Appends to one file, mode 0600. One process writes to it at a time. */
export function createFileSink ({ file, mode }: FileSinkOptions): AuditSink {
  const path = resolve(file)
  let handle: FileHandle | null = null

  async function opened (): Promise<FileHandle> {
    if (handle !== null) return handle
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    handle = await open(path, 'a+', 0o600)
    return handle
  }

  return {
    async resume () {
      // After a failed write the file may be another one: moved away, or its disk mounted again.
      await handle?.close().catch(() => {})
      handle = null
      const target = await opened()
      const point = await lastRecord(target)
      const whole = openRecord(point.torn.toString())
      if (whole === null || whole.prev !== point.head.hash) return point
      // Only its newline was lost: it is a record like the others.
      await target.appendFile('\n')
      return { head: whole.head, torn: Buffer.alloc(0) }
    },
    async write (lines) {
      const target = await opened()
      await target.appendFile(lines)
      if (mode === 'sync') await target.datasync()
    },
    async close () {
      const target = handle
      handle = null
      if (target === null) return
      try {
        await target.sync()
      } finally {
        await target.close()
      }
    }
  }
}

async function lastRecord (handle: FileHandle): Promise<ResumePoint> {
  const { size } = await handle.stat()
  if (size === 0) return { head: GENESIS, torn: Buffer.alloc(0) }
  const start = Math.max(0, size - MAX_TAIL_BYTES)
  const tail = Buffer.alloc(size - start)
  const { bytesRead } = await handle.read(tail, 0, tail.length, start)
  let end = tail.subarray(0, bytesRead).lastIndexOf(0x0a)
  while (end !== -1) {
    const begin = end === 0 ? -1 : tail.lastIndexOf(0x0a, end - 1)
    const found = openRecord(tail.toString('utf8', begin + 1, end))
    if (found !== null) return { head: found.head, torn: tail.subarray(end + 1, bytesRead) }
    end = begin
  }
  // Nothing but the first line, half written.
  if (start === 0 && !tail.includes(0x0a)) return { head: GENESIS, torn: tail.subarray(0, bytesRead) }
  throw new AuditFileInvalid('The audit file has no whole record at its end; move it away and keep it, then start again')
}

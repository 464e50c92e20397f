import { open, stat, type FileHandle } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { parseObject } from '../chain.js'
import { absent, logFiles, MAX_LINE_BYTES, type LogFile } from './log-files.js'

export interface TailOptions {
  /** Waits for further records, across rotations, until `signal` is aborted. @default false */
  readonly follow?: boolean
  /** The number of the first record; `'end'` for records written from now on. @default 1 */
  readonly from?: number | 'end'
  readonly signal?: AbortSignal
}

/** A line of the log, with its place in the chain: an event, or a record that the log wrote about itself. */
export type AuditLine = Readonly<Record<string, unknown>> & {
  readonly seq: number
  readonly prev: string
  readonly hash: string
}

/** Time between two checks of the file. */
const POLL_MS = 250
const CHUNK_BYTES = 256 * 1024

/**
 * Yields the records of a log in the order of its chain, across rotated files. Does not
 * verify them; lines that are not records are skipped.
 *
 * @example
 * for await (const record of tailAuditLog('data/audit.log', { follow: true, from: 'end' })) console.log(record.activity_name)
 */
export async function * tailAuditLog (
  file: string,
  { follow = false, from = 1, signal }: TailOptions = {}
): AsyncGenerator<AuditLine, void, void> {
  const firstSeq = from === 'end' ? 1 : from
  let skip = from === 'end'
  let last: number | null = null

  for (;;) {
    const files = await listed(file)
    const next: readonly LogFile[] = skip ? files.slice(-1) : unread(files, firstSeq, last)
    let moved = false
    for (const { path, firstSeq: number } of next) {
      const handle = await open(path, 'r').catch(absent)
      try {
        // The path may lead to a different file if the log was rotated after the directory was read; list again then.
        moved = handle === null || (number === null && (await listed(file)).length !== files.length)
        if (handle === null || moved) break
        const position: number = skip ? (await handle.stat()).size : 0
        skip = false
        const more = follow && number === null ? async () => await isStill(path, handle, signal) : null
        for await (const line of recordsOf(handle, position, more)) {
          last = line.seq
          if (line.seq >= firstSeq) yield line
        }
      } finally {
        await handle?.close()
      }
    }
    if (files.length === 0) skip = false
    if (!moved && (!follow || !(await pause(signal)))) return
  }
}

async function listed (file: string): Promise<readonly LogFile[]> {
  return await logFiles(file).catch(absent) ?? []
}

/** The files that may hold records from `firstSeq` on or, once some were read, records after `last`. */
function unread (files: readonly LogFile[], firstSeq: number, last: number | null): readonly LogFile[] {
  if (last !== null) return files.filter(file => file.firstSeq === null || file.firstSeq > last)
  return files.slice(Math.max(0, files.findLastIndex(file => file.firstSeq !== null && file.firstSeq <= firstSeq)))
}

/**
 * Reads complete lines from a position on; `more` waits for further lines and returns
 * whether the file may still grow.
 */
async function * recordsOf (
  handle: FileHandle,
  position: number,
  more: (() => Promise<boolean>) | null
): AsyncGenerator<AuditLine, void, void> {
  const chunk = Buffer.alloc(CHUNK_BYTES)
  let rest: Buffer = Buffer.alloc(0)
  let over = more === null
  for (;;) {
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, position)
    position += bytesRead
    if (bytesRead === 0) {
      if (over) return
      // Read once more: lines may have been written before the file was renamed.
      over = !(await more!())
      continue
    }
    const bytes = Buffer.concat([rest, chunk.subarray(0, bytesRead)])
    let begin = 0
    for (let end = bytes.indexOf(0x0a); end !== -1; end = bytes.indexOf(0x0a, begin)) {
      const line = parseObject(bytes.toString('utf8', begin, end))
      if (line !== null && Number.isSafeInteger(line['seq'])) yield line as AuditLine
      begin = end + 1
    }
    rest = bytes.length - begin > MAX_LINE_BYTES ? Buffer.alloc(0) : bytes.subarray(begin)
  }
}

/** Waits, then returns whether the path still leads to this file. */
async function isStill (path: string, handle: FileHandle, signal: AbortSignal | undefined): Promise<boolean> {
  if (!await pause(signal)) return false
  const [there, ours] = await Promise.all([stat(path).catch(() => null), handle.stat()])
  return there?.ino === ours.ino
}

/** False when it was aborted. */
async function pause (signal: AbortSignal | undefined): Promise<boolean> {
  return await delay(POLL_MS, true, signal === undefined ? {} : { signal }).catch(() => false)
}

import { createReadStream } from 'node:fs'
import { open, readdir, type FileHandle } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { openRecord, type OpenedRecord } from '../chain.js'

/** One file of a log. */
export interface LogFile {
  readonly path: string
  /** The number of its first record, taken from its name; null for the file that is being written. */
  readonly firstSeq: number | null
}

/** The recorder never writes longer lines. A longer line is read in pieces, none of which is a valid record. */
export const MAX_LINE_BYTES: number = 1024 * 1024

const NEWLINE = 0x0a
/** Digits of the largest safe integer: with this padding, names sort in the order of their numbers. */
const DIGITS = 16

/** The name of a rotated file: `audit.log` that begins with record 7 becomes `audit-0000000000000007.log`. */
export function rotatedName (path: string, firstSeq: number): string {
  const extension = extname(path)
  return join(dirname(path), `${basename(path, extension)}-${String(firstSeq).padStart(DIGITS, '0')}${extension}`)
}

/** The files of a log in the order of its chain: the rotated files, then the current one, if it exists. */
export async function logFiles (path: string): Promise<LogFile[]> {
  const name = basename(path)
  const extension = extname(path)
  const start = `${basename(path, extension)}-`
  const files: LogFile[] = []
  let current = false
  for (const entry of (await readdir(dirname(path))).sort()) {
    if (entry === name) current = true
    const digits = entry.slice(start.length, start.length + DIGITS)
    if (/^\d{16}$/.test(digits) && entry === `${start}${digits}${extension}`) {
      files.push({ path: join(dirname(path), entry), firstSeq: Number(digits) })
    }
  }
  return current ? [...files, { path, firstSeq: null }] : files
}

/** Error handler for a file that was renamed or deleted after it was listed: returns null for `ENOENT`. */
export function absent (error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null
  throw error
}

export interface Line {
  readonly bytes: Buffer
  /** Whether the line ends with a newline, which is not part of `bytes`. */
  readonly ended: boolean
}

/** Reads the lines of a file in constant memory. */
export async function * linesOf (path: string): AsyncGenerator<Line> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of createReadStream(path, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    let begin = 0
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, begin)) {
      yield { bytes: bytes.subarray(begin, end), ended: true }
      begin = end + 1
    }
    rest = bytes.subarray(begin)
    if (rest.length > MAX_LINE_BYTES) {
      yield { bytes: rest, ended: false }
      rest = Buffer.alloc(0)
    }
  }
  if (rest.length > 0) yield { bytes: rest, ended: false }
}

/** The first complete record of a file; null when there is none near its beginning. */
export async function firstRecordOf (path: string): Promise<OpenedRecord | null> {
  let read = 0
  for await (const { bytes } of linesOf(path)) {
    const opened = openRecord(bytes.toString())
    if (opened !== null) return opened
    read += bytes.length
    if (read > MAX_LINE_BYTES) break
  }
  return null
}

export interface FileEnd {
  readonly last: OpenedRecord | null
  /** The bytes after the last record's newline; without a record, all bytes that were read. */
  readonly torn: Buffer
  /** Whether the whole file was read. */
  readonly whole: boolean
}

/** The last complete record of a file, and the bytes after it. */
export async function endOf (handle: FileHandle): Promise<FileEnd> {
  const { size } = await handle.stat()
  const start = Math.max(0, size - MAX_LINE_BYTES)
  const tail = Buffer.alloc(size - start)
  const { bytesRead } = await handle.read(tail, 0, tail.length, start)
  let end = tail.subarray(0, bytesRead).lastIndexOf(NEWLINE)
  while (end !== -1) {
    const begin = end === 0 ? -1 : tail.lastIndexOf(NEWLINE, end - 1)
    const last = openRecord(tail.toString('utf8', begin + 1, end))
    if (last !== null) return { last, torn: tail.subarray(end + 1, bytesRead), whole: start === 0 }
    end = begin
  }
  return { last: null, torn: tail.subarray(0, bytesRead), whole: start === 0 }
}

/** The last complete record of a file; null when there is none. */
export async function lastRecordOf (path: string): Promise<OpenedRecord | null> {
  const handle = await open(path, 'r')
  try {
    return (await endOf(handle)).last
  } finally {
    await handle.close()
  }
}

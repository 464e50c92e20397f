import { unlink } from 'node:fs/promises'
import { firstRecordOf, lastRecordOf, logFiles } from './log-files.js'
import type { Pruned } from './own-records.js'

const DAY_MS = 86_400_000

/** Rotated files that need not be kept any longer, oldest first. */
export interface Expired extends Pruned {
  readonly files: readonly string[]
}

/** The rotated files from the oldest on whose last record is older than so many days; null when there is none. */
export async function expiredFiles (path: string, days: number): Promise<Expired | null> {
  const oldest = Date.now() - days * DAY_MS
  const files: string[] = []
  let last = null
  for (const file of await logFiles(path)) {
    const end = file.firstSeq === null ? null : await lastRecordOf(file.path)
    // A file that nobody can date is kept, and with it all that follows.
    if (end === null || !(new Date(end.record['time'] as number).getTime() < oldest)) break
    files.push(file.path)
    last = end
  }
  if (last === null) return null
  const first = await firstRecordOf(files[0]!)
  return { files, firstSeq: first!.head.seq, last: last.head }
}

/** Oldest first, so that what is left when this is interrupted is still the end of one chain. */
export async function deleteFiles (files: readonly string[]): Promise<void> {
  for (const file of files) await unlink(file)
}

import { unlink } from 'node:fs/promises'
import { openRecord } from '../chain.js'
import { AuditFileInvalid } from '../errors.js'
import { absent, firstRecordOf, lastRecordOf, linesOf, logFiles } from './log-files.js'
import { namedBy, prunedBy, type NamedRange, type Pruned } from '../own-records.js'

/** Maximum number of unproven ranges in a record of a deletion, so that its line stays short. */
const MAX_NAMED = 100

/** Rotated files whose retention period is over, oldest first. */
export interface Expired extends Pruned {
  readonly files: readonly string[]
}

/** The oldest rotated files whose last record is older than this; null when there is none. */
export async function expiredFiles (path: string, maxAgeSeconds: number): Promise<Expired | null> {
  const oldest = Date.now() - maxAgeSeconds * 1000
  const files: string[] = []
  let last = null
  const all = await logFiles(path)
  for (const [index, file] of all.entries()) {
    const end = file.firstSeq === null ? null : await lastRecordOf(file.path)
    // Keep a file whose age is unknown, and all files after it.
    if (end === null || !(new Date(end.record['time'] as number).getTime() < oldest)) break
    const next = all[index + 1]
    const following = next === undefined ? null : await firstRecordOf(next.path).catch(absent)
    if (following === null) break
    if (following.prev !== end.head.hash) {
      // The current file may have been rotated since the files were listed; start again.
      if ((await logFiles(path)).length !== all.length) return await expiredFiles(path, maxAgeSeconds)
      // An attacker who can write the files could give one an old last record, to have it deleted.
      throw new AuditFileInvalid(
        `No file of the audit log is deleted, because "${next!.path}" does not continue from the last record of ` +
          `"${file.path}". Verify the log`
      )
    }
    files.push(file.path)
    last = end
  }
  if (last === null) return null
  const first = await firstRecordOf(files[0]!)
  return { files, firstSeq: first!.head.seq, last: last.head, unproven: await namedIn(files) }
}

/** The unproven ranges that records of these files name; the oldest are merged into one when there are too many. */
async function namedIn (files: readonly string[]): Promise<NamedRange[]> {
  const named: NamedRange[] = []
  for (const file of files) {
    for await (const { bytes } of linesOf(file)) {
      // Most records name no range and need not be parsed.
      const opened = bytes.includes('"unproven":') ? openRecord(bytes.toString()) : null
      if (opened === null) continue
      named.push(...prunedBy(opened)?.unproven ?? [])
      const range = namedBy(opened)
      if (range !== null && range.after_seq !== null) named.push({ ...range, after_seq: range.after_seq })
    }
  }
  if (named.length <= MAX_NAMED) return named
  const oldest = named.splice(0, named.length - MAX_NAMED + 1)
  return [{ ...oldest.at(-1)!, after_seq: oldest[0]!.after_seq, after_hash: oldest[0]!.after_hash }, ...named]
}

/** Deletes the oldest file first, so that an interruption leaves the end of one chain. */
export async function deleteFiles (files: readonly string[]): Promise<void> {
  for (const file of files) await unlink(file)
}

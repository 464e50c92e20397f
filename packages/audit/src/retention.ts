import { unlink } from 'node:fs/promises'
import { openRecord } from './chain.js'
import { AuditFileInvalid } from './errors.js'
import { absent, firstRecordOf, lastRecordOf, linesOf, logFiles } from './log-files.js'
import { namedBy, prunedBy, type NamedRange, type Pruned } from './own-records.js'

const DAY_MS = 86_400_000
/** Unproven ranges that a record of a deletion keeps apart, so that it stays a short line. */
const MAX_NAMED = 100

/** Rotated files that need not be kept any longer, oldest first. */
export interface Expired extends Pruned {
  readonly files: readonly string[]
}

/** The rotated files from the oldest on whose last record is older than so many days; null when there is none. */
export async function expiredFiles (path: string, days: number): Promise<Expired | null> {
  const oldest = Date.now() - days * DAY_MS
  const files: string[] = []
  let last = null
  const all = await logFiles(path)
  for (const [index, file] of all.entries()) {
    const end = file.firstSeq === null ? null : await lastRecordOf(file.path)
    // A file that nobody can date is kept, and with it all that follows.
    if (end === null || !(new Date(end.record['time'] as number).getTime() < oldest)) break
    const next = all[index + 1]
    const following = next === undefined ? null : await firstRecordOf(next.path).catch(absent)
    if (following === null) break
    if (following.prev !== end.head.hash) {
      // The last file may have been renamed since it was listed.
      if ((await logFiles(path)).length !== all.length) return await expiredFiles(path, days)
      // Anyone who can write the files could give one an old end, to have it deleted.
      throw new AuditFileInvalid(
        `"${next!.path}" does not go on from the last record of "${file.path}": nothing is deleted. Verify the log`
      )
    }
    files.push(file.path)
    last = end
  }
  if (last === null) return null
  const first = await firstRecordOf(files[0]!)
  return { files, firstSeq: first!.head.seq, last: last.head, unproven: await namedIn(files) }
}

/** What records of these files name as unproven; the oldest together when there are many. */
async function namedIn (files: readonly string[]): Promise<NamedRange[]> {
  const named: NamedRange[] = []
  for (const file of files) {
    for await (const { bytes } of linesOf(file)) {
      // Most records are not the log's own, and need not be read.
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

/** Oldest first, so that what is left when this is interrupted is still the end of one chain. */
export async function deleteFiles (files: readonly string[]): Promise<void> {
  for (const file of files) await unlink(file)
}

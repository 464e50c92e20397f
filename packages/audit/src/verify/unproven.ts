import { hasCheckpointOf, type FoundCheckpoint, type PublicKeys } from '../checkpoints/checkpoint-verifier.js'
import { entriesOf, placeOf, type AuditPlace } from '../entries.js'
import type { UnprovenRange } from '../provenance.js'
import type { AuditUnprovenRange } from './verification.js'

/**
 * Removes deleted ranges whose last record has a valid checkpoint: they were signed after
 * all, with a key that the run did not have.
 */
export async function withoutSigned (
  ranges: readonly UnprovenRange[],
  sources: ReadonlyArray<() => AsyncGenerator<FoundCheckpoint>>,
  keys: PublicKeys
): Promise<UnprovenRange[]> {
  const unsigned: UnprovenRange[] = []
  for (const range of ranges) {
    const mayBeSigned = range.deleted && range.removed === 0
    const signed = mayBeSigned
      ? await Promise.all(sources.map(source => hasCheckpointOf(source(), range.last, keys)))
      : []
    if (!signed.includes(true)) unsigned.push(range)
  }
  return unsigned
}

/** Finds the place of the first record of each range. Reads the log once more, if there is any range. */
export async function locateUnproven (
  ranges: readonly UnprovenRange[],
  files: readonly string[]
): Promise<AuditUnprovenRange[]> {
  const firsts = new Map<number, AuditPlace | null>(ranges.map(({ afterSeq }) => [afterSeq + 1, null]))
  if (ranges.length > 0) {
    for await (const entry of entriesOf(files)) {
      const seq = entry.opened?.head.seq
      if (seq !== undefined && firsts.get(seq) === null) firsts.set(seq, placeOf(entry))
    }
  }
  return ranges.map(({ afterSeq, last, removed, afterStop, namedBy: entry }) => {
    const namedBy = entry === null ? null : placeOf(entry)
    const first = (afterSeq < last.seq ? firsts.get(afterSeq + 1) : null) ?? namedBy!
    return { firstSeq: afterSeq + 1, lastSeq: last.seq, lastHash: last.hash, removed, afterStop, first, namedBy }
  })
}

/** The message for a range of unproven records: what it means and what to do. */
export function describeUnproven (range: AuditUnprovenRange): string {
  const { firstSeq, lastSeq, lastHash } = range
  const accept =
    'Compare the log with other sources. When you know where these records come from, accept them with the hash ' +
    lastHash
  const parts = [firstSeq <= lastSeq ? foundRecords(range) : '', removedRecords(range), causeOf(range), accept]
  return parts.filter(part => part !== '').join('. ')
}

function foundRecords ({ firstSeq, lastSeq, namedBy }: AuditUnprovenRange): string {
  const records = firstSeq === lastSeq ? `Record ${firstSeq} is` : `Records ${firstSeq} to ${lastSeq} are`
  const until = namedBy === null ? 'the end of the log' : `record ${namedBy.seq ?? '?'}, which names what was found`
  return `${records} not proven to be genuine: no checkpoint was signed before ${until}`
}

function removedRecords ({ lastSeq, removed }: AuditUnprovenRange): string {
  if (removed === 0) return ''
  const records = removed === 1 ? '1 record' : `${removed} records`
  const verb = removed === 1 ? 'was' : 'were'
  return `${records} that the service had written after record ${lastSeq} ${verb} removed while it ran`
}

function causeOf ({ removed, afterStop }: AuditUnprovenRange): string {
  if (removed > 0) return 'Someone changed the log while the service was running'
  if (afterStop) {
    return 'They come after a signed orderly end, where no run writes. Either the next run was killed in its first ' +
      'milliseconds, or someone else wrote them'
  }
  return 'A run that is killed leaves such records, and so does someone who writes to the log'
}

import type { Hash } from 'node:crypto'
import type { ChainHead, OpenedRecord } from './chain.js'
import { classify, LIFECYCLE_UID, LOG_UID, OCSF_VERSION } from './ocsf.js'

/** What is missing or out of place before a gap marker. */
export interface Gap {
  /** Bytes between the previous record and the marker that are not a record; 0 when only events were lost. */
  readonly tornBytes: number
  readonly tornSha256: string | null
  /** Events that were not written; null when the process died, so that the number is unknown. */
  readonly lostEvents: number | null
}

/** Records that a run found in the log, did not write itself, and cannot vouch for. */
export interface Unproven {
  /** The last record that a signed checkpoint vouches for; `GENESIS` when there is none. */
  readonly after: ChainHead
  /** The last record found. */
  readonly last: ChainHead
  /** The number of the last record that this run had written itself; 0 at its start. */
  readonly writtenSeq: number
}

/**
 * JSON of the record that a run writes first when it cannot simply continue the log. `audit.gap`: something is missing
 * before it; the record covers the bytes found there instead. `audit.unproven`: nothing is missing, but the log has
 * records that the run cannot vouch for.
 */
export function markerRecord (gap: Gap | null, unproven: Unproven | null): string {
  const { tornBytes, tornSha256, lostEvents } = gap ?? { tornBytes: 0, tornSha256: null, lostEvents: 0 }
  return ownRecord(gap === null ? UNPROVEN : GAP, 'failure', {
    torn_bytes: tornBytes,
    torn_sha256: tornSha256,
    lost_events: lostEvents,
    ...(unproven === null ? {} : { unproven: rangeOf(unproven) })
  })
}

/** A range of records, as a marker names it, that no signature made before that marker proves. */
export interface NamedRange {
  readonly after_seq: number
  readonly after_hash: string
  readonly last_seq: number
  readonly last_hash: string
  readonly written_seq: number
}

function rangeOf ({ after, last, writtenSeq }: Unproven): NamedRange {
  return {
    after_seq: after.seq,
    after_hash: after.hash,
    last_seq: last.seq,
    last_hash: last.hash,
    written_seq: writtenSeq
  }
}

/**
 * The range of unproven records right before a marker; null for any other record. `after_seq` is null in markers of
 * earlier versions, which did not state where the range begins.
 */
export function namedBy ({
  record,
  head,
  prev
}: OpenedRecord): (Omit<NamedRange, 'after_seq'> & { readonly after_seq: number | null }) | null {
  const named = record['unproven'] as Partial<NamedRange> | undefined
  const isKilled = isGap(record) && record['lost_events'] === null
  if (!isKilled && !((isGap(record) || isOwn(record, UNPROVEN)) && isObject(named))) return null
  const { after_seq: after, after_hash: hash, written_seq: written } = named ?? {}
  return {
    after_seq: isSeq(after) && after < head.seq ? after : null,
    after_hash: String(hash),
    last_seq: head.seq - 1,
    last_hash: prev,
    written_seq: isSeq(written) ? written : 0
  }
}

export function isGap (record: Readonly<Record<string, unknown>>): boolean {
  return isOwn(record, GAP)
}

/** Whether a record is the marker for exactly these bytes. */
export function marksGap (record: Readonly<Record<string, unknown>>, bytes: number, sha256: Hash): boolean {
  return isGap(record) && record['torn_bytes'] === bytes && record['torn_sha256'] === sha256.copy().digest('hex')
}

/** Records that were deleted because their retention period was over. */
export interface Pruned {
  readonly firstSeq: number
  /** The last deleted record: the log now begins with the record after it. */
  readonly last: ChainHead
  /** The unproven ranges that the deleted records named, so that they stay named. */
  readonly unproven: readonly NamedRange[]
}

/** JSON of the record `audit.prune`, written before anything is deleted. */
export function pruneRecord ({ firstSeq, last, unproven }: Pruned): string {
  const members = {
    first_seq: firstSeq,
    last_seq: last.seq,
    last_hash: last.hash,
    ...(unproven.length === 0 ? {} : { unproven })
  }
  return ownRecord(PRUNE, 'success', members)
}

/** The deletion that a record `audit.prune` names; null for any other record. */
export function prunedBy ({ record, head }: OpenedRecord): Pruned | null {
  const { first_seq: firstSeq, last_seq: seq, last_hash: hash, unproven } = record
  if (!isOwn(record, PRUNE) || !isSeq(firstSeq) || !isSeq(seq) || seq >= head.seq || typeof hash !== 'string') {
    return null
  }
  return { firstSeq, last: { seq, hash }, unproven: Array.isArray(unproven) ? unproven.filter(isRange) : [] }
}

/** Whether a record is the last one of a run that ended in order. */
export function isOrderlyEnd (record: Readonly<Record<string, unknown>>): boolean {
  // Check the class too: a client can choose the name of an operation that is refused.
  return record['activity_name'] === 'service.stop' && record['class_uid'] === LIFECYCLE_UID
}

const GAP = 'audit.gap'
const UNPROVEN = 'audit.unproven'
const PRUNE = 'audit.prune'

/** Whether the log itself wrote a record; nothing else writes records of that class. */
function isOwn (record: Readonly<Record<string, unknown>>, action: string): boolean {
  return record['activity_name'] === action && record['class_uid'] === LOG_UID
}

function isRange (value: unknown): value is NamedRange {
  return isObject(value) && isSeq(value.after_seq) && isSeq(value.last_seq) && typeof value.last_hash === 'string'
}

function isObject (value: unknown): value is Partial<NamedRange> {
  return typeof value === 'object' && value !== null
}

function isSeq (value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function ownRecord (action: string, outcome: 'success' | 'failure', members: Readonly<Record<string, unknown>>): string {
  const now = new Date()
  return JSON.stringify({
    time: now.getTime(),
    time_dt: now.toISOString(),
    ...classify('log', action, outcome, action),
    metadata: { version: OCSF_VERSION },
    ...members
  })
}

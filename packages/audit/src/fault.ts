import { follows, parseObject, type ChainHead, type OpenedRecord } from './chain.js'
import { entriesOf, type Entry } from './entries.js'
import { isGap } from './own-records.js'

export type FaultKind = 'edited' | 'deleted' | 'inserted' | 'reordered' | 'duplicated'

export interface ChainFault {
  readonly kind: FaultKind
  readonly file: string
  readonly line: number
  readonly seq: number | null
  readonly message: string
}

const MEANINGS: Readonly<Record<FaultKind, string>> = {
  edited: 'This line is not what was written here',
  deleted: 'One or more records before this one are missing',
  inserted: 'This record was not written here',
  reordered: 'Records before this one stand elsewhere in the log',
  duplicated: 'This record stands in the log twice'
}
const ADVICE =
  'Keep the log as it is, find out who could write to it, and restore it from a copy that was kept elsewhere'

/** What the rest of the log shows about a record that does not follow the previous one. */
interface Evidence {
  /** The same record is also elsewhere in the log. */
  twice: boolean
  /** The record that belongs in its place comes later. */
  expectedLater: boolean
  /** The record it follows is in the log. */
  hasPredecessor: boolean
  /** A record follows it. */
  isContinued: boolean
  /** An earlier record that follows the same predecessor. */
  rival: Entry | null
  /** The last record before it that is in its correct place. */
  previous: Entry | null
  /** No line comes after it. */
  isLast: boolean
}

/**
 * Determines what happened at a line that does not follow `before`. Reads the log once more, because only the other
 * records show whether a record was deleted, inserted, moved or duplicated.
 */
export async function findFault (files: readonly string[], at: Entry, before: ChainHead): Promise<ChainFault> {
  if (at.opened === null) return faultAt(await isFollowedBy(files, at, before) ? 'inserted' : 'edited', at)
  const evidence = await gather(files, at, at.opened, before)
  const { twice, expectedLater, hasPredecessor, isContinued, rival, previous, isLast } = evidence
  const { seq } = at.opened.head
  // Two records for one place: the one that the log continues from is genuine, the other was inserted.
  if (rival !== null) return faultAt('inserted', isContinued ? rival : at)
  if (twice) return faultAt('duplicated', at)
  if (expectedLater) return faultAt(hasPredecessor ? 'reordered' : 'inserted', at)
  if (seq <= before.seq) return faultAt('inserted', at)
  if (seq > before.seq + 1) return faultAt(isContinued || isLast ? 'deleted' : 'edited', at)
  // The log continues from this record, so the previous one was replaced by another record with a valid hash.
  return faultAt('edited', isContinued && previous !== null ? previous : at)
}

/** Whether the record after these unreadable lines is the one that belongs in their place: then they were inserted. */
async function isFollowedBy (files: readonly string[], at: Entry, before: ChainHead): Promise<boolean> {
  let passed = false
  for await (const entry of entriesOf(files)) {
    passed ||= isSame(entry, at)
    // A gap marker takes the number of the lost record before it, so it does not show that the lines were inserted.
    if (passed && entry.opened !== null) return follows(entry.opened, before) && !isGap(entry.opened.record)
  }
  return false
}

async function gather (
  files: readonly string[],
  at: Entry,
  opened: OpenedRecord,
  before: ChainHead
): Promise<Evidence> {
  const evidence: Evidence = {
    twice: false,
    expectedLater: false,
    hasPredecessor: false,
    isContinued: false,
    rival: null,
    previous: null,
    isLast: true
  }
  let passed = false
  for await (const entry of entriesOf(files)) {
    if (isSame(entry, at)) {
      passed = true
      continue
    }
    evidence.isLast = !passed
    const other = entry.opened
    if (other === null) continue
    if (other.head.hash === opened.head.hash) evidence.twice = true
    if (other.head.hash === opened.prev) evidence.hasPredecessor = true
    if (other.prev === opened.head.hash) evidence.isContinued = true
    if (passed && follows(other, before)) evidence.expectedLater = true
    if (!passed && other.head.hash === before.hash) evidence.previous = entry
    if (!passed && other.prev === opened.prev && other.head.hash !== opened.head.hash) evidence.rival ??= entry
  }
  return evidence
}

function isSame (one: Entry, other: Entry): boolean {
  return one.line === other.line && one.file === other.file
}

function faultAt (kind: FaultKind, { file, line, opened, bytes }: Entry): ChainFault {
  const claimed = opened?.head.seq ?? parseObject(bytes.toString('utf8'))?.['seq']
  return {
    kind,
    file,
    line,
    seq: Number.isSafeInteger(claimed) ? (claimed as number) : null,
    message: `${MEANINGS[kind]}. ${ADVICE}`
  }
}

import { createHash, createPublicKey, type Hash, type KeyObject } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { follows, GENESIS, mayBeTorn, type ChainHead, type OpenedRecord } from './chain.js'
import { AuditOptionInvalid } from './errors.js'
import { findFault, type FaultKind } from './fault.js'
import { createHeadChecker, hasHeadOf, headsIn, headsOf, type HeadFault } from './head-check.js'
import { keyIdOf, type SignedHead } from './heads.js'
import { entriesOf, type Entry } from './entries.js'
import { logFiles } from './log-files.js'
import { isGap, marksGap, prunedBy, type Pruned } from './own-records.js'
import { Provenance, reaches, type Doubt } from './provenance.js'

export interface VerifyOptions {
  /**
   * The Ed25519 public keys that verify the heads, as KeyObjects or PEM. Without a key, heads are
   * compared but their signatures are not checked.
   */
  readonly publicKey?: KeyObject | string | ReadonlyArray<KeyObject | string>
  /** @default `<log>.heads` */
  readonly headsFile?: string
  /** Heads that were stored elsewhere. */
  readonly heads?: readonly SignedHead[]
  /**
   * `lastHash` of unproven ranges that have been investigated: they are listed, but are
   * not a fault. A hash covers all records before it too.
   * @default []
   */
  readonly acceptUnproven?: readonly string[]
}

/** A line of a log. */
export interface AuditPlace {
  readonly file: string
  /** The line number, from 1; 0 for the file itself. */
  readonly line: number
  /** The number of the record; null when it is unknown. */
  readonly seq: number | null
}

export type AuditFaultKind = FaultKind | HeadFault['kind'] | 'torn' | 'start-unsigned'

export interface AuditFault extends AuditPlace {
  /**
   * `edited`, `deleted`, `inserted`, `reordered`, `duplicated`: what was done to the log. `truncated`: a signed head
   * covers records after the end of the log. `head-mismatch`: a head covers a different record at this place.
   * `head-forged`: the key did not sign this head. `head-missing`: a key was given, but there is no head. Warnings:
   * `torn`, the last line was being written when the process died; `start-unsigned`, older records were deleted, and
   * without a key nothing proves who did it.
   */
  readonly kind: AuditFaultKind
  /** What the fault means and what to do. */
  readonly message: string
}

/** Records that the next run found, had not written, and named: no signature made before that proves who wrote them. */
export interface AuditUnprovenRange {
  readonly firstSeq: number
  /** Less than `firstSeq` when no record was found but some were removed. */
  readonly lastSeq: number
  /** The hash of record `lastSeq`. */
  readonly lastHash: string
  /**
   * Number of records after `lastSeq` that the run which names the range had written,
   * and that were missing afterwards.
   */
  readonly removed: number
  /**
   * Whether they come after a signed orderly end, where no run writes. Otherwise a crash may have left them unsigned.
   */
  readonly afterStop: boolean
  /** The place of the first of them or, if it was removed, of the record that names them. */
  readonly first: AuditPlace
  /** The record that names them; null when no run has started since. */
  readonly namedBy: AuditPlace | null
}

export interface AuditVerified {
  readonly ok: true
  readonly records: number
  /** In the order in which they were read. */
  readonly files: readonly string[]
  /** Places where a gap marker records that something was lost. */
  readonly gaps: readonly AuditPlace[]
  /** The end of the chain. */
  readonly head: ChainHead
  /**
   * The last record that a head with a valid signature covers; null when there is none. Later records are not proven.
   */
  readonly signedSeq: number | null
  /** Unproven ranges that `acceptUnproven` accepts. */
  readonly unproven: readonly AuditUnprovenRange[]
  readonly warnings: readonly AuditFault[]
}

/**
 * Nothing contradicts the log, but some records are not proven to be genuine. The place is that of the first of them.
 */
export interface AuditUnproven extends Omit<AuditVerified, 'ok'>, AuditPlace {
  readonly ok: false
  readonly kind: 'unproven'
  readonly message: string
}

/** The first bad record. */
export interface AuditBroken extends AuditFault {
  readonly ok: false
  /** Good records before it. */
  readonly records: number
}

export type AuditVerification = AuditVerified | AuditUnproven | AuditBroken

/** Consecutive lines that are not records. */
interface Unreadable {
  readonly first: Entry
  readonly hash: Hash
  bytes: number
  lines: number
  /** Whether a crash may have left all of them. */
  torn: boolean
}

/**
 * Verifies all files of a log in the order of its chain, in constant memory, and
 * returns the first bad record. Signed heads detect what the chain alone cannot: a log
 * that an attacker without the key has truncated, rolled back or rewritten.
 *
 * @throws the error of the file system; `ENOENT` when there is no log
 * @example
 * const result = await verifyAuditLog('data/audit.log', { publicKey: readFileSync('audit-heads.pem', 'utf8') })
 * if (!result.ok) console.error(`${result.file}:${result.line}: ${result.kind}: ${result.message}`)
 */
export async function verifyAuditLog (file: string, options: VerifyOptions = {}): Promise<AuditVerification> {
  const headsFile = options.headsFile ?? `${file}.heads`
  for (let attempt = 1; ; attempt++) {
    const before = await stateOf(file, headsFile)
    const result = await verifyFiles(file, before.files, headsFile, options).catch((error: unknown) => error as Error)
    // The log may be written, rotated and pruned while it is read. A real fault is still there when it is read again.
    if (attempt < MAX_ATTEMPTS && (result instanceof Error || !result.ok)) {
      // A run that has just started signs its first record immediately afterwards; wait for that signature.
      if (attempt === 1 && 'unproven' in result && result.unproven.some(({ namedBy }) => namedBy === null)) {
        await delay(SIGNING_MS)
      }
      if ((await stateOf(file, headsFile)).mark !== before.mark) continue
    }
    if (result instanceof Error) throw result
    return result
  }
}

const MAX_ATTEMPTS = 5
const SIGNING_MS = 250

async function stateOf (
  file: string,
  headsFile: string
): Promise<{ readonly files: readonly string[], readonly mark: string }> {
  const files = (await logFiles(file)).map(({ path }) => path)
  const sizes = await Promise.all([...files, headsFile].map(async path => (await stat(path).catch(() => null))?.size))
  return { files, mark: [...files, ...sizes].join('\n') }
}

async function verifyFiles (
  file: string,
  files: readonly string[],
  headsFile: string,
  options: VerifyOptions
): Promise<AuditVerification> {
  if (files.length === 0) throw Object.assign(new Error(`There is no audit log "${file}"`), { code: 'ENOENT' })
  const keys = keysOf(options.publicKey)
  const sources = [() => headsIn(headsFile), () => headsOf(options.heads ?? [])]
  const checkers = sources.map(heads => createHeadChecker(heads(), keys))
  const provenance = new Provenance(keys.size > 0)

  let head = GENESIS
  let records = 0
  let unreadable: Unreadable | null = null
  let first: Entry | null = null
  let isStartClaimed = false
  let fault: AuditFault | null = null
  let lastEntry: Entry | null = null
  const gaps: AuditPlace[] = []
  const warnings: AuditFault[] = []

  for (const checker of checkers) fault ??= await checker.start()

  for await (const entry of entriesOf(files)) {
    const { opened } = entry
    if (fault !== null) {
      // Go on reading only to find a record that claims the deletion before the first record. Without one, the missing
      // beginning of the log is reported as the first fault.
      if (first === null || isStartClaimed) break
      isStartClaimed = opened !== null && claims(opened, startOf(first))
      continue
    }
    lastEntry = entry
    if (opened === null) {
      unreadable ??= { first: entry, hash: createHash('sha256'), bytes: 0, lines: 0, torn: true }
      unreadable.hash.update(entry.bytes).update(entry.ended ? '\n' : '')
      unreadable.bytes += entry.bytes.length + (entry.ended ? 1 : 0)
      unreadable.lines++
      unreadable.torn &&= mayBeTorn(entry.bytes.toString('utf8'), records === 0 ? null : head.seq + 1)
      continue
    }
    const isMarked: boolean =
      unreadable === null || (unreadable.torn && marksGap(opened.record, unreadable.bytes, unreadable.hash))
    if (records === 0 && opened.head.seq > 1 && isMarked) {
      first = entry
      head = startOf(entry)
      provenance.beginsAfter(head)
    }
    if (unreadable !== null && !(isMarked && follows(opened, head))) {
      fault = await findFault(files, unreadable.first, head)
      continue
    }
    unreadable = null
    if (!follows(opened, head)) {
      fault = await findFault(files, entry, head)
      continue
    }
    head = opened.head
    records++
    if (isGap(opened.record)) gaps.push(placeOf(entry))
    if (first !== null) isStartClaimed ||= claims(opened, startOf(first))
    provenance.look(opened, entry)
    for (const checker of checkers) if (checker.nextSeq <= head.seq) fault ??= await checker.check(head, entry)
    if (fault === null && checkers.some(checker => checker.coveredSeq() === opened.head.seq)) provenance.cover(opened)
  }

  if (
    first !== null &&
    !(fault === null ? await isStartProven(files, provenance.startClaim, startOf(first)) : isStartClaimed)
  ) {
    fault = await findFault(files, first, GENESIS)
    records = 0
  }
  if (fault === null && unreadable !== null) {
    if (unreadable.torn && unreadable.lines === 1 && !unreadable.first.ended) {
      warnings.push({
        kind: 'torn',
        ...placeOf(unreadable.first),
        message:
          'The last line is half written, as when the process dies or the disk is full; the next start marks it and ' +
            'goes on. Nothing has to be done'
      })
    } else {
      fault = await findFault(files, unreadable.first, head)
    }
  }
  if (fault === null && records > 0 && keys.size > 0 && checkers.every(({ count }) => count() === 0)) {
    fault = {
      kind: 'head-missing',
      file: headsFile,
      line: 0,
      seq: null,
      message:
        'There is a public key but no signed head to verify the log with: heads were deleted or never signed. Get ' +
          'them from where onHead has put them'
    }
  }
  for (const checker of checkers) fault ??= checker.end(head, lastEntry ?? { file, line: 0 })
  if (fault !== null) return { ok: false, ...fault, records }

  if (first !== null && keys.size === 0) {
    warnings.push({
      kind: 'start-unsigned',
      ...placeOf(first),
      message:
        'Records before this one were deleted. The log says that they were too old, but without the public key ' +
          'nothing proves it'
    })
  }
  const signed = keys.size === 0 ? 0 : Math.max(...checkers.map(checker => checker.coveredSeq()))
  const doubts = await withoutSigned(provenance.end(head), sources, keys)
  const unproven = await placed(doubts, files)
  const found = { records, files, gaps, head, signedSeq: signed === 0 ? null : signed, unproven, warnings }
  const bad = unproven.find(({ lastHash }) => options.acceptUnproven?.includes(lastHash) !== true)
  return bad === undefined
    ? { ok: true, ...found }
    : { ok: false, kind: 'unproven', ...bad.first, message: wordsFor(bad), ...found }
}

/** The end of the chain before a record. */
function startOf ({ opened }: Entry): ChainHead {
  return { seq: opened!.head.seq - 1, hash: opened!.prev }
}

function claims (opened: OpenedRecord, start: ChainHead): boolean {
  const pruned = prunedBy(opened)
  return pruned !== null && reaches(pruned, start)
}

/** If a deletion was interrupted, the last record that it was meant to delete must still exist. */
async function isStartProven (files: readonly string[], claim: Pruned | null, start: ChainHead): Promise<boolean> {
  let isProven = claim?.last.seq === start.seq
  if (claim === null || isProven) return isProven
  for await (const { opened } of entriesOf(files)) {
    isProven ||= opened?.head.seq === claim.last.seq && opened.head.hash === claim.last.hash
  }
  return isProven
}

/**
 * Removes deleted ranges whose last record has a valid head: they were signed after
 * all, with a key that the run did not have.
 */
async function withoutSigned (
  doubts: readonly Doubt[],
  sources: ReadonlyArray<() => ReturnType<typeof headsIn>>,
  keys: ReadonlyMap<string, KeyObject>
): Promise<Doubt[]> {
  const left: Doubt[] = []
  for (const doubt of doubts) {
    const signed =
      doubt.deleted && doubt.removed === 0
        ? await Promise.all(sources.map(heads => hasHeadOf(heads(), doubt.last, keys)))
        : []
    if (!signed.includes(true)) left.push(doubt)
  }
  return left
}

/** Reads the log once more, if there is any doubt, for the first record of each. */
async function placed (doubts: readonly Doubt[], files: readonly string[]): Promise<AuditUnprovenRange[]> {
  const firsts = new Map<number, AuditPlace | null>(doubts.map(({ afterSeq }) => [afterSeq + 1, null]))
  if (doubts.length > 0) {
    for await (const entry of entriesOf(files)) {
      const seq = entry.opened?.head.seq
      if (seq !== undefined && firsts.get(seq) === null) firsts.set(seq, placeOf(entry))
    }
  }
  return doubts.map(({ afterSeq, last, removed, afterStop, namedBy: by }) => {
    const namedBy = by === null ? null : placeOf(by)
    const first = (afterSeq < last.seq ? firsts.get(afterSeq + 1) : null) ?? namedBy!
    return { firstSeq: afterSeq + 1, lastSeq: last.seq, lastHash: last.hash, removed, afterStop, first, namedBy }
  })
}

const CHANGED = 'Somebody changed the log under the service'
const BEHIND_STOP =
  'They stand behind a signed orderly end, where no run writes: unless the next run was killed in its first ' +
    'moments, somebody else wrote them'
const KILLED = 'A run that is killed leaves records like these, and so does somebody who writes to the log'

/** The message for a range of unproven records: what it means and what to do. */
function wordsFor ({ firstSeq, lastSeq, lastHash, removed, afterStop, namedBy }: AuditUnprovenRange): string {
  const range = firstSeq === lastSeq ? `Record ${firstSeq} is` : `Records ${firstSeq} to ${lastSeq} are`
  const found =
    lastSeq < firstSeq
      ? ''
      : `${range} not proven to be genuine: no signature was made before ` +
        `${namedBy === null ? 'the log ends' : `record ${namedBy.seq ?? '?'} named what was found`}. `
  const gone =
    removed === 0
      ? ''
      : `Records that the service had written after record ${lastSeq}, ${removed} in number, were removed while it ran. `
  const why = removed > 0 ? CHANGED : afterStop ? BEHIND_STOP : KILLED
  const advice = `Compare them with other sources; when they are accounted for, accept ${lastHash}`
  return `${found}${gone}${why}. ${advice}`
}

function placeOf ({ file, line, opened }: Entry): AuditPlace {
  return { file, line, seq: opened?.head.seq ?? null }
}

function keysOf (publicKey: VerifyOptions['publicKey'] = []): ReadonlyMap<string, KeyObject> {
  const keys = [publicKey].flat() as ReadonlyArray<KeyObject | string>
  return new Map(keys.map(key => {
    const object = typeof key === 'string' || key.type === 'private' ? createPublicKey(key as KeyObject) : key
    if (object.asymmetricKeyType !== 'ed25519') {
      throw new AuditOptionInvalid('audit option "publicKey" must be an Ed25519 public key')
    }
    return [keyIdOf(object), object]
  }))
}

import { createHash } from 'node:crypto'
import { follows, GENESIS, mayBeTorn, type ChainHead, type OpenedRecord } from '../chain.js'
import { CheckpointVerifier, type FoundCheckpoint, type PublicKeys } from '../checkpoints/checkpoint-verifier.js'
import { entriesOf, placeOf, type AuditPlace, type Entry } from '../entries.js'
import { findFault } from '../fault.js'
import { isGap, marksGap, prunedBy, type Pruned } from '../own-records.js'
import { Provenance, reaches } from '../provenance.js'
import { describeUnproven, locateUnproven, withoutSigned } from './unproven.js'
import type { AuditFault, AuditVerification } from './verification.js'

export interface LogVerifierOptions {
  /** The path of the log. */
  readonly file: string
  /** The files of the log in the order of its chain; at least one. */
  readonly files: readonly string[]
  readonly checkpointsFile: string
  /** Each reads the checkpoints of one place from the start. */
  readonly sources: ReadonlyArray<() => AsyncGenerator<FoundCheckpoint>>
  readonly keys: PublicKeys
  readonly acceptUnproven: readonly string[]
}

/** Reads a log once, record by record, and finds its first fault. Use it for one verification only. */
export class LogVerifier {
  readonly #options: LogVerifierOptions
  readonly #checkpoints: readonly CheckpointVerifier[]
  readonly #provenance: Provenance
  readonly #gaps: AuditPlace[] = []
  readonly #warnings: AuditFault[] = []
  /** The last record that was found good. */
  #head = GENESIS
  /** Number of good records. */
  #records = 0
  /** The lines since the last record that are not records. */
  #unreadable: UnreadableLines | null = null
  #lastEntry: Entry | null = null
  #fault: AuditFault | null = null
  /** The first record, when it is not record 1 because older records were deleted. */
  #first: Entry | null = null
  /** Whether some record claims that the records before `#first` were deleted for their age. */
  #isStartClaimed = false

  constructor (options: LogVerifierOptions) {
    this.#options = options
    this.#checkpoints = options.sources.map(source => new CheckpointVerifier(source(), options.keys))
    this.#provenance = new Provenance(options.keys.size > 0)
  }

  async verify (): Promise<AuditVerification> {
    await this.#readRecords()
    await this.#checkStart()
    await this.#checkUnreadableEnd()
    this.#checkCheckpoints()
    if (this.#fault !== null) return { ok: false, ...this.#fault, records: this.#records }
    return await this.#report()
  }

  async #readRecords (): Promise<void> {
    for (const verifier of this.#checkpoints) this.#fault ??= await verifier.advance()
    for await (const entry of entriesOf(this.#options.files)) {
      if (this.#fault === null) await this.#read(entry)
      // Read on only to find a record that claims the deletion before the first record. Without such a record, the
      // missing beginning of the log is reported as the first fault.
      else if (this.#first === null || this.#isStartClaimed) break
      else this.#isStartClaimed = entry.opened !== null && claims(entry.opened, startOf(this.#first))
    }
  }

  async #read (entry: Entry): Promise<void> {
    this.#lastEntry = entry
    const { files } = this.#options
    const { opened } = entry
    const unreadable = this.#unreadable
    if (opened === null) {
      this.#unreadable ??= new UnreadableLines(entry)
      this.#unreadable.add(entry, this.#records === 0 ? null : this.#head.seq + 1)
      return
    }
    const isMarked = unreadable === null || unreadable.isMarkedBy(opened)
    if (this.#records === 0 && opened.head.seq > 1 && isMarked) {
      this.#first = entry
      this.#head = startOf(entry)
      this.#provenance.beginsAfter(this.#head)
    }
    if (unreadable !== null && !(isMarked && follows(opened, this.#head))) {
      this.#fault = await findFault(files, unreadable.first, this.#head)
      return
    }
    this.#unreadable = null
    if (follows(opened, this.#head)) await this.#accept(entry, opened)
    else this.#fault = await findFault(files, entry, this.#head)
  }

  async #accept (entry: Entry, opened: OpenedRecord): Promise<void> {
    const { head } = opened
    this.#head = head
    this.#records++
    if (isGap(opened.record)) this.#gaps.push(placeOf(entry))
    if (this.#first !== null) this.#isStartClaimed ||= claims(opened, startOf(this.#first))
    this.#provenance.add(opened, entry)
    for (const verifier of this.#checkpoints) {
      if (verifier.nextSeq <= head.seq) this.#fault ??= await verifier.check(head, entry)
    }
    const isCovered = this.#checkpoints.some(({ coveredSeq }) => coveredSeq === head.seq)
    if (this.#fault === null && isCovered) this.#provenance.cover(opened)
  }

  /** When the log does not begin with record 1, something must prove that the service deleted the older records. */
  async #checkStart (): Promise<void> {
    if (this.#first === null) return
    const isProven = this.#fault === null ? await this.#isStartProven(startOf(this.#first)) : this.#isStartClaimed
    if (isProven) return
    this.#fault = await findFault(this.#options.files, this.#first, GENESIS)
    this.#records = 0
  }

  /** If a deletion was interrupted, the last record that it was meant to delete must still exist. */
  async #isStartProven (start: ChainHead): Promise<boolean> {
    const claim: Pruned | null = this.#provenance.startClaim
    if (claim === null) return false
    if (claim.last.seq === start.seq) return true
    let isFound = false
    for await (const { opened } of entriesOf(this.#options.files)) {
      isFound ||= opened?.head.seq === claim.last.seq && opened.head.hash === claim.last.hash
    }
    return isFound
  }

  async #checkUnreadableEnd (): Promise<void> {
    const unreadable = this.#unreadable
    if (this.#fault !== null || unreadable === null) return
    if (unreadable.isHalfLine) {
      const message =
        'The last line is half written, as when the process dies or the disk is full. The next start marks it and ' +
        'continues the log. Nothing has to be done'
      this.#warnings.push({ kind: 'torn', ...placeOf(unreadable.first), message })
    } else {
      this.#fault = await findFault(this.#options.files, unreadable.first, this.#head)
    }
  }

  #checkCheckpoints (): void {
    const { file, checkpointsFile, keys } = this.#options
    const hasNone = this.#checkpoints.every(({ count }) => count === 0)
    if (this.#fault === null && this.#records > 0 && keys.size > 0 && hasNone) {
      const message =
        'A public key was given, but there is no signed checkpoint to verify the log with: the checkpoints were ' +
        'deleted or never signed. Get them from where onCheckpoint has stored them'
      this.#fault = { kind: 'checkpoint-missing', file: checkpointsFile, line: 0, seq: null, message }
    }
    const end = this.#lastEntry ?? { file, line: 0 }
    for (const verifier of this.#checkpoints) this.#fault ??= verifier.checkEnd(this.#head, end)
  }

  /** The result for a log that nothing contradicts. */
  async #report (): Promise<AuditVerification> {
    const { files, keys, sources, acceptUnproven } = this.#options
    if (this.#first !== null && keys.size === 0) {
      const message =
        'Records before this one were deleted. The log says that they were too old, but without the public key ' +
        'nothing proves it'
      this.#warnings.push({ kind: 'start-unsigned', ...placeOf(this.#first), message })
    }
    const signedSeq = keys.size === 0 ? 0 : Math.max(...this.#checkpoints.map(({ coveredSeq }) => coveredSeq))
    const ranges = await withoutSigned(this.#provenance.finish(this.#head), sources, keys)
    const unproven = await locateUnproven(ranges, files)
    const result = {
      records: this.#records,
      files,
      gaps: this.#gaps,
      head: this.#head,
      signedSeq: signedSeq === 0 ? null : signedSeq,
      unproven,
      warnings: this.#warnings
    }
    const open = unproven.find(({ lastHash }) => !acceptUnproven.includes(lastHash))
    return open === undefined
      ? { ok: true, ...result }
      : { ok: false, kind: 'unproven', ...open.first, message: describeUnproven(open), ...result }
  }
}

/** Consecutive lines that are not records. */
class UnreadableLines {
  readonly first: Entry
  readonly #hash = createHash('sha256')
  #bytes = 0
  #lines = 0
  /** Whether a crash may have left all of them. */
  #isTorn = true

  constructor (first: Entry) {
    this.first = first
  }

  /** `nextSeq` is the number of the record that belongs in their place, if it is known. */
  add ({ bytes, ended }: Entry, nextSeq: number | null): void {
    this.#hash.update(bytes).update(ended ? '\n' : '')
    this.#bytes += bytes.length + (ended ? 1 : 0)
    this.#lines++
    this.#isTorn &&= mayBeTorn(bytes.toString('utf8'), nextSeq)
  }

  /** Whether this record is the gap marker for exactly these lines. */
  isMarkedBy ({ record }: OpenedRecord): boolean {
    return this.#isTorn && marksGap(record, this.#bytes, this.#hash)
  }

  /** Whether they are one line that was being written when the process died. */
  get isHalfLine (): boolean {
    return this.#isTorn && this.#lines === 1 && !this.first.ended
  }
}

/** The end of the chain before a record. */
function startOf ({ opened }: Entry): ChainHead {
  return { seq: opened!.head.seq - 1, hash: opened!.prev }
}

/** Whether a record claims that the records up to `start` were deleted for their age. */
function claims (opened: OpenedRecord, start: ChainHead): boolean {
  const pruned = prunedBy(opened)
  return pruned !== null && reaches(pruned, start)
}

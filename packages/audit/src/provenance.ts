import { GENESIS, type ChainHead, type OpenedRecord } from './chain.js'
import type { Entry } from './entries.js'
import { isOrderlyEnd, namedBy, prunedBy, type NamedRange, type Pruned } from './own-records.js'

/** Records in the chain that no signature proves, although a later signature covers them. */
export interface UnprovenRange {
  /** The last proven record before them. */
  readonly afterSeq: number
  readonly last: ChainHead
  /** Number of records that the run which names the range had written, and that were missing afterwards. */
  readonly removed: number
  /** Whether they come after a signed orderly end. */
  readonly afterStop: boolean
  /** The record that names them; null when no run has started since. */
  readonly namedBy: Entry | null
  /** Whether retention has deleted them since. */
  readonly deleted: boolean
}

/** Determines, record by record in the order of the chain, which records no valid checkpoint proves. */
export class Provenance {
  readonly #hasKeys: boolean
  #start: ChainHead = GENESIS
  #covered = 0
  #isStopCovered = false
  /** Deletions that no checkpoint covers yet. */
  #unconfirmedDeletions: Array<readonly [Pruned, Entry]> = []
  #startClaim: Pruned | null = null
  #ranges: UnprovenRange[] = []

  constructor (hasKeys: boolean) {
    this.#hasKeys = hasKeys
  }

  /** Call this when the log begins not with record 1 but with the record after `start`. */
  beginsAfter (start: ChainHead): void {
    this.#start = start
  }

  /** Call this for every record, before `cover`. */
  add (opened: OpenedRecord, entry: Entry): void {
    const pruned = prunedBy(opened)
    if (pruned !== null) {
      this.#unconfirmedDeletions.push([pruned, entry])
      // Without a key nothing can be proven, so trust what the log states.
      if (!this.#hasKeys) this.#confirmDeletions()
    }
    const named = namedBy(opened)
    if (named === null) return
    // Deletions found together with these records are unproven too.
    this.#unconfirmedDeletions = []
    this.#addNamed(named, entry)
  }

  /** Call this when a valid checkpoint covers the chain up to this record. */
  cover ({ head, record }: OpenedRecord): void {
    this.#confirmDeletions()
    this.#covered = head.seq
    this.#isStopCovered = isOrderlyEnd(record)
  }

  /** Call this at the end of the log; `head` is its last record. */
  finish (head: ChainHead): readonly UnprovenRange[] {
    // A run signs its first record immediately, so no run wrote the unsigned records after an orderly end.
    if (this.#isStopCovered && head.seq > this.#covered) {
      const afterSeq = this.#covered
      this.#addRange({ afterSeq, last: head, removed: 0, afterStop: true, namedBy: null, deleted: false })
    }
    return this.#ranges
  }

  /** The proven deletion that explains where the log begins; null when there is none. */
  get startClaim (): Pruned | null {
    return this.#startClaim
  }

  #confirmDeletions (): void {
    for (const [pruned, entry] of this.#unconfirmedDeletions) {
      if (reaches(pruned, this.#start) && this.#startClaim?.last.seq !== this.#start.seq) this.#startClaim = pruned
      for (const { after_seq: afterSeq, last_seq: seq, last_hash: hash, written_seq: written } of pruned.unproven) {
        const removed = Math.max(0, Number(written) - seq)
        this.#ranges.push({ afterSeq, last: { seq, hash }, removed, afterStop: false, namedBy: entry, deleted: true })
      }
    }
    this.#unconfirmedDeletions = []
  }

  #addNamed (named: Omit<NamedRange, 'after_seq'> & { readonly after_seq: number | null }, entry: Entry): void {
    const { after_seq: after, last_seq: seq, last_hash: hash, written_seq: written } = named
    const afterSeq = this.#hasKeys ? this.#provenBefore(after) : after ?? this.#covered
    const removed = Math.max(0, written - seq)
    // A log that was never signed proves nothing; this is reported elsewhere.
    const isUnsigned = after === null && this.#covered === 0 && !this.#hasKeys
    if ((afterSeq >= seq && removed === 0) || isUnsigned) return
    const afterStop = this.#isStopCovered && afterSeq === this.#covered && afterSeq < seq
    this.#addRange({ afterSeq, last: { seq, hash }, removed, afterStop, namedBy: entry, deleted: false })
  }

  /** Only the checkpoints that exist now count, not those that the run had: some may have been deleted since. */
  #provenBefore (after: number | null): number {
    return Math.max(this.#covered, Math.min(after ?? this.#start.seq, this.#start.seq))
  }

  #addRange (range: UnprovenRange): void {
    // The new range replaces the ranges inside it.
    this.#ranges = [...this.#ranges.filter(({ afterSeq, deleted }) => deleted || afterSeq < range.afterSeq), range]
  }
}

/**
 * Whether a deletion was meant to reach at least the beginning of the log. An
 * interrupted deletion leaves some of its range.
 */
export function reaches ({ firstSeq, last }: Pruned, start: ChainHead): boolean {
  return firstSeq <= start.seq + 1 && (last.seq > start.seq || (last.seq === start.seq && last.hash === start.hash))
}

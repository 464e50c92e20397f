import { GENESIS, type ChainHead, type OpenedRecord } from './chain.js'
import type { Entry } from './entries.js'
import { isOrderlyEnd, namedBy, prunedBy, type NamedRange, type Pruned } from './own-records.js'

/** Records that are in the chain and that no signature vouches for, although a later one covers them. */
export interface Doubt {
  /** The last proven record before them. */
  readonly afterSeq: number
  readonly last: ChainHead
  /** Records that the run which names them had written, and did not find again. */
  readonly removed: number
  /** Whether they stand behind an orderly end that is signed. */
  readonly afterStop: boolean
  /** The record that names them; null when no run has begun since. */
  readonly namedBy: Entry | null
  /** Whether they have been deleted since, as too old. */
  readonly deleted: boolean
}

/** Finds out, record by record in the order of the chain, what a valid head does not prove. */
export class Provenance {
  readonly #hasKeys: boolean
  #start: ChainHead = GENESIS
  #covered = 0
  #isStopCovered = false
  /** Deletions that no head covers yet. */
  #waiting: Array<readonly [Pruned, Entry]> = []
  #startClaim: Pruned | null = null
  #doubts: Doubt[] = []

  constructor (hasKeys: boolean) {
    this.#hasKeys = hasKeys
  }

  /** The log does not begin with record 1 but with the one after this. */
  beginsAfter (start: ChainHead): void {
    this.#start = start
  }

  /** For every record, before `cover`. */
  look (opened: OpenedRecord, entry: Entry): void {
    const pruned = prunedBy(opened)
    if (pruned !== null) {
      this.#waiting.push([pruned, entry])
      // Without a key nothing can be proven, and the log is taken at its word.
      if (!this.#hasKeys) this.#settle()
    }
    const named = namedBy(opened)
    if (named === null) return
    // What was found together with them is proven by nothing either.
    this.#waiting = []
    this.#name(named, entry)
  }

  /** A valid head covers the chain up to this record. */
  cover ({ head, record }: OpenedRecord): void {
    this.#settle()
    this.#covered = head.seq
    this.#isStopCovered = isOrderlyEnd(record)
  }

  /** When the log is over; `head` is its end. */
  end (head: ChainHead): readonly Doubt[] {
    // A run signs its first record at once, so what stands behind an orderly end unsigned is nobody's.
    if (this.#isStopCovered && head.seq > this.#covered) {
      this.#add({ afterSeq: this.#covered, last: head, removed: 0, afterStop: true, namedBy: null, deleted: false })
    }
    return this.#doubts
  }

  /** What the log itself says was deleted up to its start; null when nothing proves that. */
  get startClaim (): Pruned | null {
    return this.#startClaim
  }

  #settle (): void {
    for (const [pruned, entry] of this.#waiting) {
      if (reaches(pruned, this.#start) && this.#startClaim?.last.seq !== this.#start.seq) this.#startClaim = pruned
      for (const { after_seq: afterSeq, last_seq: seq, last_hash: hash, written_seq: written } of pruned.unproven) {
        const removed = Math.max(0, Number(written) - seq)
        this.#doubts.push({ afterSeq, last: { seq, hash }, removed, afterStop: false, namedBy: entry, deleted: true })
      }
    }
    this.#waiting = []
  }

  #name (named: Omit<NamedRange, 'after_seq'> & { readonly after_seq: number | null }, entry: Entry): void {
    const { after_seq: after, last_seq: seq, last_hash: hash, written_seq: written } = named
    const afterSeq = this.#hasKeys ? this.#provenBefore(after) : after ?? this.#covered
    const removed = Math.max(0, written - seq)
    // A log that was never signed proves nothing, and says so elsewhere.
    const isUnsigned = after === null && this.#covered === 0 && !this.#hasKeys
    if ((afterSeq >= seq && removed === 0) || isUnsigned) return
    const afterStop = this.#isStopCovered && afterSeq === this.#covered && afterSeq < seq
    this.#add({ afterSeq, last: { seq, hash }, removed, afterStop, namedBy: entry, deleted: false })
  }

  /** The heads that are here now decide, not those that the run had: some may have been taken away since. */
  #provenBefore (after: number | null): number {
    return Math.max(this.#covered, Math.min(after ?? this.#start.seq, this.#start.seq))
  }

  #add (doubt: Doubt): void {
    // What was named within the new range has no weight of its own.
    this.#doubts = [...this.#doubts.filter(({ afterSeq, deleted }) => deleted || afterSeq < doubt.afterSeq), doubt]
  }
}

/** Whether a deletion was meant to go at least as far as to where the log begins; one that was interrupted leaves some of its range. */
export function reaches ({ firstSeq, last }: Pruned, start: ChainHead): boolean {
  return firstSeq <= start.seq + 1 && (last.seq > start.seq || (last.seq === start.seq && last.hash === start.hash))
}

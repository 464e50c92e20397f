import type { KeyObject } from 'node:crypto'
import type { ChainHead } from './chain.js'
import { isSignedBy, parseHead, type SignedHead } from './heads.js'
import { linesOf } from './log-files.js'

export interface HeadFault {
  readonly kind: 'truncated' | 'head-mismatch' | 'head-forged' | 'head-missing'
  readonly file: string
  readonly line: number
  readonly seq: number | null
  readonly message: string
}

/** A head and the place where it was found; the head is null when the line is not a valid head. */
interface FoundHead {
  readonly head: SignedHead | null
  readonly file: string
  readonly line: number
}

/** Compares the records of a log with heads, in the order of the chain. */
export interface HeadChecker {
  /** The number of the record that the next head covers; Infinity when there is no further head. */
  readonly nextSeq: number
  start (): Promise<HeadFault | null>
  /** To be called for every record from `nextSeq` on. */
  check (end: ChainHead, at: { readonly file: string, readonly line: number }): Promise<HeadFault | null>
  /** To be called at the end of the log. */
  end (end: ChainHead, at: { readonly file: string, readonly line: number }): HeadFault | null
  count (): number
  /**
   * The last record so far that a head covers; 0 when there is none. With keys, only
   * heads with a valid signature count.
   */
  coveredSeq (): number
}

/** With no keys, signatures are not checked. */
export function createHeadChecker (
  found: AsyncGenerator<FoundHead>,
  keys: ReadonlyMap<string, KeyObject>
): HeadChecker {
  let next: SignedHead | null = null
  let from = 0
  let covered = 0
  let count = 0

  async function advance (): Promise<HeadFault | null> {
    const { value } = (await found.next()) as { value: FoundHead | undefined }
    if (value === undefined) {
      next = null
      return null
    }
    const { head, file, line } = value
    count++
    if (head === null || (keys.size > 0 && !isSignedBy(head, keys))) {
      return {
        kind: 'head-forged',
        file,
        line,
        seq: head?.seq ?? null,
        message:
          'The key did not sign this head: it was forged or changed, or it is of a key that was not given. Compare ' +
          'it with the heads that were kept elsewhere'
      }
    }
    if (head.seq < from) {
      return {
        kind: 'head-mismatch',
        file,
        line,
        seq: head.seq,
        message:
          `This head follows one of record ${from}: the log was set back in between. Records from ` +
          `${head.seq} on cannot be trusted`
      }
    }
    next = head
    from = head.seq
    return null
  }

  return {
    get nextSeq () {
      return next?.seq ?? Infinity
    },
    start: advance,
    async check ({ seq, hash }, { file, line }) {
      while (next !== null && next.seq <= seq) {
        // A head of a record that was deleted by retention says nothing about the remaining records.
        if (next.seq === seq) {
          if (next.hash !== hash) {
            return {
              kind: 'head-mismatch',
              file,
              line,
              seq,
              message:
                `The signed head of ${next.time} tells of another record here: the log was written anew ` +
                `somewhere after record ${covered}. Keep it, and restore the log from a copy that was kept elsewhere`
            }
          }
          covered = seq
        }
        const fault = await advance()
        if (fault !== null) return fault
      }
      return null
    },
    end ({ seq }, { file, line }) {
      if (next === null) return null
      return {
        kind: 'truncated',
        file,
        line: line + 1,
        seq: seq + 1,
        message:
          `The signed head of ${next.time} tells of ${next.seq} records: those after ${seq} were cut off, or ` +
          'the log was set back. Keep it, and restore the log from a copy that was kept elsewhere'
      }
    },
    count: () => count,
    coveredSeq: () => covered
  }
}

/** Whether there is a head of exactly this record, signed with one of the keys. */
export async function hasHeadOf (
  found: AsyncGenerator<FoundHead>,
  { seq, hash }: ChainHead,
  keys: ReadonlyMap<string, KeyObject>
): Promise<boolean> {
  for await (const { head } of found) if (head?.seq === seq && head.hash === hash && isSignedBy(head, keys)) return true
  return false
}

/** Heads that were stored elsewhere, in the order of the chain. */
export async function * headsOf (heads: readonly SignedHead[]): AsyncGenerator<FoundHead> {
  for (const head of heads.toSorted((one, other) => one.seq - other.seq)) yield { head, file: 'heads', line: heads.indexOf(head) + 1 }
}

/** Reads the heads of a file; none when the file does not exist. Ignores a half-written last line. */
export async function * headsIn (file: string): AsyncGenerator<FoundHead> {
  let line = 0
  try {
    for await (const { bytes, ended } of linesOf(file)) {
      line++
      if (ended) yield { head: parseHead(bytes.toString('utf8')), file, line }
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

import type { KeyObject } from 'node:crypto'
import type { ChainHead } from '../chain.js'
import { isSignedBy, parseCheckpoint, type SignedCheckpoint } from './checkpoint.js'
import { linesOf } from '../sinks/log-files.js'

export interface CheckpointFault {
  readonly kind: 'truncated' | 'checkpoint-mismatch' | 'checkpoint-forged' | 'checkpoint-missing'
  readonly file: string
  readonly line: number
  readonly seq: number | null
  readonly message: string
}

/** A checkpoint and the place where it was found. */
export interface FoundCheckpoint {
  /** Null when the line is not a checkpoint. */
  readonly checkpoint: SignedCheckpoint | null
  readonly file: string
  readonly line: number
}

/** The public keys whose signatures are valid, by their id. */
export type PublicKeys = ReadonlyMap<string, KeyObject>

interface LinePlace {
  readonly file: string
  readonly line: number
}

/** Compares the records of a log with its checkpoints, in the order of the chain. */
export class CheckpointVerifier {
  readonly #source: AsyncGenerator<FoundCheckpoint>
  readonly #keys: PublicKeys
  #next: SignedCheckpoint | null = null
  /** The number of the record that the last checkpoint read so far covers. */
  #lastSeq = 0
  #coveredSeq = 0
  #count = 0

  /** With no keys, signatures are not checked. */
  constructor (source: AsyncGenerator<FoundCheckpoint>, keys: PublicKeys) {
    this.#source = source
    this.#keys = keys
  }

  /** The number of the record that the next checkpoint covers; Infinity when there is no further checkpoint. */
  get nextSeq (): number {
    return this.#next?.seq ?? Infinity
  }

  /** Number of checkpoints read so far. */
  get count (): number {
    return this.#count
  }

  /**
   * The last record so far that a checkpoint covers; 0 when there is none. With keys, only checkpoints with a valid
   * signature count.
   */
  get coveredSeq (): number {
    return this.#coveredSeq
  }

  /** Reads the next checkpoint. Call this once before the first `check`. */
  async advance (): Promise<CheckpointFault | null> {
    const { value } = (await this.#source.next()) as { value: FoundCheckpoint | undefined }
    if (value === undefined) {
      this.#next = null
      return null
    }
    this.#count++
    const { checkpoint, file, line } = value
    if (checkpoint === null || (this.#keys.size > 0 && !isSignedBy(checkpoint, this.#keys))) {
      const message =
        'This checkpoint has no valid signature of the given key: it was forged or changed, or another key signed it. ' +
        'Compare it with the checkpoints that are stored elsewhere'
      return { kind: 'checkpoint-forged', file, line, seq: checkpoint?.seq ?? null, message }
    }
    const { seq } = checkpoint
    if (seq < this.#lastSeq) {
      const message =
        `This checkpoint covers record ${seq}, but the checkpoint before it covers record ${this.#lastSeq}: the log ` +
        `was rolled back in between. Do not trust the records from ${seq} on`
      return { kind: 'checkpoint-mismatch', file, line, seq, message }
    }
    this.#next = checkpoint
    this.#lastSeq = seq
    return null
  }

  /** Call this for every record from `nextSeq` on. */
  async check ({ seq, hash }: ChainHead, { file, line }: LinePlace): Promise<CheckpointFault | null> {
    while (this.#next !== null && this.#next.seq <= seq) {
      // A checkpoint of a record that was deleted by retention says nothing about the remaining records.
      if (this.#next.seq === seq) {
        if (this.#next.hash !== hash) {
          const message =
            `The checkpoint signed at ${this.#next.time} covers a different record here: the log was rewritten ` +
            `somewhere after record ${this.#coveredSeq}. ${RESTORE}`
          return { kind: 'checkpoint-mismatch', file, line, seq, message }
        }
        this.#coveredSeq = seq
      }
      const fault = await this.advance()
      if (fault !== null) return fault
    }
    return null
  }

  /** Call this after the last record, with the end of the log. */
  checkEnd ({ seq }: ChainHead, { file, line }: LinePlace): CheckpointFault | null {
    if (this.#next === null) return null
    const message =
      `The checkpoint signed at ${this.#next.time} covers ${this.#next.seq} records: those after record ${seq} were ` +
      `removed, or the log was rolled back. ${RESTORE}`
    return { kind: 'truncated', file, line: line + 1, seq: seq + 1, message }
  }
}

const RESTORE = 'Keep the log as it is, and restore it from a copy that is stored elsewhere'

/** Whether there is a checkpoint of exactly this record, signed with one of the keys. */
export async function hasCheckpointOf (
  source: AsyncGenerator<FoundCheckpoint>,
  { seq, hash }: ChainHead,
  keys: PublicKeys
): Promise<boolean> {
  for await (const { checkpoint } of source) {
    if (checkpoint?.seq === seq && checkpoint.hash === hash && isSignedBy(checkpoint, keys)) return true
  }
  return false
}

/** Checkpoints that were stored elsewhere, in the order of the chain. */
export async function * checkpointsOf (checkpoints: readonly SignedCheckpoint[]): AsyncGenerator<FoundCheckpoint> {
  for (const checkpoint of checkpoints.toSorted((one, other) => one.seq - other.seq)) {
    yield { checkpoint, file: 'checkpoints', line: checkpoints.indexOf(checkpoint) + 1 }
  }
}

/** Reads the checkpoints of a file; none when the file does not exist. Ignores a half-written last line. */
export async function * checkpointsIn (file: string): AsyncGenerator<FoundCheckpoint> {
  let line = 0
  try {
    for await (const { bytes, ended } of linesOf(file)) {
      line++
      if (ended) yield { checkpoint: parseCheckpoint(bytes.toString('utf8')), file, line }
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

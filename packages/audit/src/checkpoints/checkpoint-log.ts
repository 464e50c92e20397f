import { createPublicKey, type KeyObject } from 'node:crypto'
import { resolve } from 'node:path'
import { GENESIS, type ChainHead } from '../chain.js'
import { createSigner, verifyCheckpoint, type SignedCheckpoint } from './checkpoint.js'
import { CheckpointFile } from './checkpoint-file.js'
import { AuditFileInvalid } from '../errors.js'

export interface AuditCheckpoints {
  /** An Ed25519 private key, as a KeyObject or PEM. */
  readonly key: KeyObject | string
  /**
   * The file to which checkpoints are appended, one JSON line each, mode 0600.
   * @default `<log>.heads` beside a log file; none for other sinks
   */
  readonly file?: string
  /** Signs a checkpoint when the last one is this old and there were events since. @default 60 */
  readonly everySeconds?: number
  /** Signs a checkpoint after this many events. @default 1000 */
  readonly everyEvents?: number
  /**
   * Receives every checkpoint, to store it where no one who can write the log can write. The
   * log does not wait for it; failures are logged.
   */
  readonly onCheckpoint?: (checkpoint: SignedCheckpoint) => void | Promise<void>
}

export interface CheckpointLogSettings {
  readonly key: KeyObject
  readonly file: string | null
  readonly everySeconds: number
  readonly everyEvents: number
  readonly onCheckpoint: NonNullable<AuditCheckpoints['onCheckpoint']> | null
  readonly onError: (error: unknown) => void
}

/** The longest timer of Node.js: it runs a longer one immediately. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Signs the end of the chain at intervals, and remembers what is signed. */
export class CheckpointLog {
  readonly everyMs: number
  readonly #settings: CheckpointLogSettings
  readonly #signer: (head: ChainHead) => SignedCheckpoint
  readonly #file: CheckpointFile | null
  /** Whether the last checkpoint in the file has been read. */
  #isRead: boolean
  /** The last checkpoint, by whichever key. */
  #last: ChainHead | null = null
  /** The last checkpoint with a valid signature of our key. */
  #lastOwn: ChainHead = GENESIS
  #signedAt = -Infinity

  constructor (settings: CheckpointLogSettings) {
    this.#settings = settings
    this.#signer = createSigner(settings.key)
    this.#file = settings.file === null ? null : new CheckpointFile(resolve(settings.file))
    this.#isRead = this.#file === null
    this.everyMs = Math.min(settings.everySeconds * 1000, MAX_TIMER_MS)
  }

  /**
   * Returns the last record that a checkpoint signed with this key covers; `GENESIS` when there is none. Throws
   * `MARTY_AUDIT_FILE_INVALID` when the log ends before the record of the last checkpoint, or with a different record.
   */
  async resume (end: ChainHead): Promise<ChainHead> {
    if (!this.#isRead) await this.#readLast(this.#file!)
    const last = this.#last
    if (last === null || last.seq < end.seq || (last.seq === end.seq && last.hash === end.hash)) return this.#lastOwn
    const contradiction =
      last.seq === end.seq
        ? `Record ${end.seq} of the audit log is not the record that its last signed checkpoint covers: it was replaced`
        : `The audit log ends with record ${end.seq}, but its last signed checkpoint covers record ${last.seq}: ` +
          'records were removed'
    throw new AuditFileInvalid(
      `${contradiction}. Keep the log and its checkpoints, verify them, and move both away; then start again`
    )
  }

  async #readLast (file: CheckpointFile): Promise<void> {
    const last = await file.last()
    // A checkpoint that this key did not sign may have been forged together with the records that it covers.
    if (last !== null && verifyCheckpoint(last, createPublicKey(this.#settings.key))) {
      this.#lastOwn = { seq: last.seq, hash: last.hash }
    }
    this.#last = last
    this.#isRead = true
  }

  /** Whether there are records that no checkpoint covers. */
  isBehind (end: ChainHead): boolean {
    return this.#uncovered(end) > 0
  }

  /** Whether the end of the chain should be signed now. */
  isDue (end: ChainHead): boolean {
    const { everyEvents } = this.#settings
    const uncovered = this.#uncovered(end)
    return uncovered > 0 && (uncovered >= everyEvents || Date.now() - this.#signedAt >= this.everyMs)
  }

  #uncovered (end: ChainHead): number {
    return end.seq - (this.#last?.seq ?? 0)
  }

  /** Signs the end of the chain, which must be durable already. Never rejects. */
  async sign (end: ChainHead): Promise<void> {
    const checkpoint = this.#signer(end)
    try {
      await this.#file?.append(checkpoint)
    } catch (error) {
      this.#settings.onError(error)
      return
    }
    this.#last = this.#lastOwn = end
    this.#signedAt = Date.now()
    // Do not wait: the receiver may be slow or unavailable, and the log must go on.
    void this.#publish(checkpoint)
  }

  async #publish (checkpoint: SignedCheckpoint): Promise<void> {
    try {
      await this.#settings.onCheckpoint?.(checkpoint)
    } catch (error) {
      this.#settings.onError(error)
    }
  }
}

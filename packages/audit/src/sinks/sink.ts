import type { ChainHead } from '../chain.js'

/**
 * Destination of the lines. Lines arrive complete and in order; each call is made only
 * after the previous one has settled.
 */
export interface AuditSink {
  /**
   * Writes complete lines, each ended by a newline. Settles when they are as durable as `write` makes them, and rejects
   * when they could not be written. `from` is the end of the chain before these lines, `to` is its end after them.
   */
  write (lines: string, from: ChainHead, to: ChainHead): void | Promise<void>
  /**
   * Returns where the chain of an earlier run ended. Called before the first write, and again after a failed one.
   * @default a new chain
   */
  resume? (): ResumePoint | Promise<ResumePoint>
  /**
   * Makes everything written so far durable, if `write` does not. Called before the lines are acknowledged or signed.
   */
  sync? (): Promise<void>
  close? (): void | Promise<void>
}

export interface ResumePoint {
  readonly head: ChainHead
  /** The bytes after the last complete record: a line that was being written when the process died. */
  readonly torn: Buffer
  /** Whether the previous run ended in order. @default true */
  readonly orderly?: boolean
}

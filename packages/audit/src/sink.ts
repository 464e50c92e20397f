import type { ChainHead } from './chain.js'

/** Where lines go. Lines arrive in order, whole, and each call only after the one before has settled. */
export interface AuditSink {
  /**
   * Writes whole lines, each ended by a newline. Settles when they are as safe as the sink can make them; rejects otherwise.
   * `from` is the end of the chain before them, `to` after them.
   */
  write (lines: string, from: ChainHead, to: ChainHead): void | Promise<void>
  /** Where the chain of an earlier run ended. Called before the first write, and again after a failed one. @default a new chain */
  resume? (): ResumePoint | Promise<ResumePoint>
  /** Makes everything written so far durable, when `write` does not. Called before what was written is acknowledged or signed. */
  sync? (): Promise<void>
  close? (): void | Promise<void>
}

export interface ResumePoint {
  readonly head: ChainHead
  /** What follows the last whole record: a line that was being written when the process died. */
  readonly torn: Buffer
  /** Whether the run before ended in order. @default true */
  readonly orderly?: boolean
}

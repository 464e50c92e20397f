import type { ChainHead } from './chain.js'

/** Where lines go. Lines arrive in order, whole, and each call only after the one before has settled. */
export interface AuditSink {
  /** Writes whole lines, each ended by a newline. Settles when they are as safe as the sink can make them; rejects otherwise. */
  write (lines: string): void | Promise<void>
  /** Where the chain of an earlier run ended. Called before the first write, and again after a failed one. @default a new chain */
  resume? (): ResumePoint | Promise<ResumePoint>
  close? (): void | Promise<void>
}

export interface ResumePoint {
  readonly head: ChainHead
  /** What follows the last whole record: a line that was being written when the process died. */
  readonly torn: Buffer
}

import type { SourceProblem } from '@marty/config'
import type { Watched } from './policy-watch.js'
import type { PolicyText } from './policy-worker.js'

export interface FoundPolicy extends PolicyText {
  /** What the bytes must hash to; null when the origin does not say. */
  readonly sha256: string | null
  /** The origin's own count; 0 when it has none. */
  readonly generation: number
}

/** Where newer policies come from. */
export interface PolicyOrigin extends Watched {
  /** Waits, not for long, until it can be read. An origin that has it holds what is newer than the first policy. */
  readonly start?: () => Promise<void>
  /**
   * The newest text; null when there has never been one. `newest` is the generation that was taken last.
   * Throws {@link PolicyInvalid} when there is nothing that could be taken.
   */
  read (newest: number): Promise<FoundPolicy | null>
}

/** A mistake of a text as a whole, or of the place it comes from. */
export function problemOf (source: string, message: string): SourceProblem {
  return { source, line: 0, column: 0, message }
}

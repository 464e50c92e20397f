import type { SourceProblem } from '@marty/config'
import { PolicyInvalid } from '../errors.js'
import type { Watched } from './watch.js'
import type { PolicyText } from './worker.js'

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

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Throws {@link PolicyInvalid} for what is no UTF-8: a name must not turn into another one. */
export function textOf (bytes: Uint8Array, file: string): string {
  try {
    return utf8.decode(bytes)
  } catch {
    throw new PolicyInvalid([problemOf(file, 'is not UTF-8; save it in that encoding')])
  }
}

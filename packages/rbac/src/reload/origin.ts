import type { SourceProblem } from '@marty/config'
import { PolicyInvalid } from '../errors.js'
import type { Watched } from './watch.js'
import type { PolicyText } from './worker.js'

export interface FoundPolicy extends PolicyText {
  /** The expected SHA-256 of the bytes; null if the origin does not provide it. */
  readonly sha256: string | null
  /** The origin's own generation number; 0 if it has none. */
  readonly generation: number
}

/** The source of newer policies. */
export interface PolicyOrigin extends Watched {
  /**
   * Waits, with a short limit, until the origin can be read. An origin with this method holds policies
   * that are newer than the first one.
   */
  readonly start?: () => Promise<void>
  /**
   * Reads the newest policy; null if there has never been one. `newest` is the generation that was read
   * last. Throws {@link PolicyInvalid} if there is nothing usable.
   */
  read (newest: number): Promise<FoundPolicy | null>
}

/** A problem of a policy as a whole, or of its source. */
export function problemOf (source: string, message: string): SourceProblem {
  return { source, line: 0, column: 0, message }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Decodes UTF-8. Throws {@link PolicyInvalid} if it is invalid: replacement characters could turn a name
 * into another one.
 */
export function textOf (bytes: Uint8Array, file: string): string {
  try {
    return utf8.decode(bytes)
  } catch {
    throw new PolicyInvalid([problemOf(file, 'is not UTF-8; save it in that encoding')])
  }
}

/** What one write adds to the chain. */
export interface WriteAttempt {
  /** The hash of the marker; null when there is none. */
  readonly marker: string | null
  /** The hashes of the events. */
  readonly events: readonly string[]
  /** Number of lost events that the marker reports. */
  readonly reportedLosses: number
}

const NO_ATTEMPT: WriteAttempt = { marker: null, events: [], reportedLosses: 0 }
/** Maximum number of remembered failed writes that may still be carried out late. */
const MAX_IN_DOUBT = 100

/**
 * Remembers what failed writes may nevertheless have left in the sink: to write no event twice, and to tell our
 * records from those of others.
 */
export class WriteAttempts {
  #last: WriteAttempt = NO_ATTEMPT
  /** The ends of earlier failed writes: Redis may execute a command late. */
  #inDoubt: string[] = []

  begin (attempt: WriteAttempt): void {
    this.#last = attempt
  }

  /** The last write succeeded, so earlier writes can no longer be carried out. */
  succeed (): void {
    this.#last = NO_ATTEMPT
    this.#inDoubt = []
  }

  /** Whether one of these writes may have written the record with this hash. */
  mayHaveWritten (hash: string): boolean {
    const { marker, events } = this.#last
    return marker === hash || events.includes(hash) || this.#inDoubt.includes(hash)
  }

  /**
   * Determines how much of the last, failed write has reached the sink, which ends with the record with this hash.
   * Returns the number of its events that are there, or null when its marker and its events are not there.
   */
  reconcile (end: string): { readonly written: number, readonly reportedLosses: number } | null {
    const { marker, events, reportedLosses } = this.#last
    const index = events.indexOf(end)
    if (index === -1 && end !== marker) {
      const last = events.at(-1) ?? marker
      if (last !== null && !this.#inDoubt.includes(last)) {
        this.#inDoubt = [...this.#inDoubt.slice(1 - MAX_IN_DOUBT), last]
      }
      return null
    }
    this.#last = NO_ATTEMPT
    return { written: index + 1, reportedLosses }
  }
}

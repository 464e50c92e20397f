export interface Watched {
  /** Returns a string that changes whenever there may be something new. Never rejects. */
  identify (): Promise<string>
  /**
   * Calls `report` when there may be a change; changes that it misses are found by polling. Returns a
   * function that stops it.
   */
  listen (report: () => void): () => void
  /** The time between two polls, in milliseconds. */
  readonly pollMs: number
  /**
   * How long, in milliseconds, a change must stay unchanged before it is read, so that a file is not read
   * while it is being written.
   */
  readonly settleMs: number
}

/**
 * Calls `onChange` after each change, never two calls at a time. The first call comes soon, because the
 * current content may be newer than what was read before. If the callback returns false, it could not read
 * the change, and the next poll calls it again.
 */
export function watch ({ identify, listen, pollMs, settleMs }: Watched, onChange: () => Promise<boolean>): () => void {
  let known: string | null = null
  let candidate: string | null = null
  let timer: NodeJS.Timeout | undefined
  let isLooking = false
  let isReported = false
  let isClosed = false

  const look = async (): Promise<void> => {
    isLooking = true
    isReported = false
    const identity = await identify()
    const hasSettled = identity === candidate
    candidate = identity
    if (!isClosed && identity !== known && hasSettled) known = await onChange() ? identity : null
    isLooking = false
    if (!isClosed) later(isReported || !hasSettled ? settleMs : pollMs)
  }
  const later = (ms: number): void => {
    clearTimeout(timer)
    timer = setTimeout(() => { void look() }, ms).unref()
  }
  const stop = listen(() => {
    // Only the first report reschedules the next look: in a busy folder, later reports would postpone it
    // forever.
    if (!isReported && !isLooking) later(settleMs)
    isReported = true
  })
  void look()
  return () => {
    isClosed = true
    clearTimeout(timer)
    stop()
  }
}

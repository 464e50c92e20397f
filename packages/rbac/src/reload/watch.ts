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
 * the change, and the next poll calls it again. Returns a function that stops watching.
 */
export function watch ({ identify, listen, pollMs, settleMs }: Watched, onChange: () => Promise<boolean>): () => void {
  /** The identity that `onChange` handled last. */
  let handled: string | null = null
  let latest: string | null = null
  let timer: NodeJS.Timeout | undefined
  let isPolling = false
  let isReported = false
  let isClosed = false

  const poll = async (): Promise<void> => {
    isPolling = true
    isReported = false
    const identity = await identify()
    const hasSettled = identity === latest
    latest = identity
    if (!isClosed && identity !== handled && hasSettled) handled = await onChange() ? identity : null
    isPolling = false
    if (!isClosed) pollIn(isReported || !hasSettled ? settleMs : pollMs)
  }
  const pollIn = (ms: number): void => {
    clearTimeout(timer)
    timer = setTimeout(() => { void poll() }, ms).unref()
  }
  const stopListening = listen(() => {
    // Only the first report reschedules the next poll: in a busy folder, later reports would postpone it
    // forever.
    if (!isReported && !isPolling) pollIn(settleMs)
    isReported = true
  })
  void poll()
  return () => {
    isClosed = true
    clearTimeout(timer)
    stopListening()
  }
}

export interface Watched {
  /** Something that changes whenever there may be something new. Never rejects. */
  identify (): Promise<string>
  /** Reports that it may have changed; what is not reported is found by polling. Returns how to stop. */
  listen (report: () => void): () => void
  /** Milliseconds. */
  readonly pollMs: number
  /** A change counts once it has held still for this many milliseconds: what is being written is left alone. */
  readonly settleMs: number
}

/**
 * Calls back after each change, never twice at a time. The first call comes soon: what is there now may be newer than
 * what was read before. A callback that answers false could not read the change, and is called again by the next poll.
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
    // Only the first report brings the look forward: in a busy folder the others would put it off for ever.
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

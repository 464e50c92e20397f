interface Batch {
  readonly released: Promise<void>
  readonly release: () => void
  waiting: number
}

/**
 * Release a batch at 16 waiting requests. With larger batches, a store that they query over the network (such as
 * Redis) would be idle while the remaining sockets are still being read.
 */
const MAX_WAITING = 16

/** Captured at load time, because tests of applications replace the global timers with fake ones. */
const afterReading = setImmediate

let current: Batch | null = null

/**
 * Resolves when the event loop has read all data that had arrived, or when sixteen requests wait. The waiting requests
 * then run consecutively. That is cheaper than running each one between its system calls, because code, data and branch
 * predictions are still cached from the request before. It is a promise rather than a list of callbacks, because code
 * that awaits a promise keeps the async context of its own request.
 */
export function endOfTurn (): Promise<void> {
  const batch = current ??= startBatch()
  if (++batch.waiting === MAX_WAITING) releaseBatch(batch)
  return batch.released
}

function startBatch (): Batch {
  let release = (): void => {}
  const released = new Promise<void>(resolve => { release = resolve })
  const batch = { released, release, waiting: 0 }
  afterReading(releaseBatch, batch)
  return batch
}

/** May be called more than once. */
function releaseBatch (batch: Batch): void {
  if (current === batch) current = null
  batch.release()
}

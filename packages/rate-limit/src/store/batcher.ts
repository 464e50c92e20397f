import type { BatchStore, Charge, StoreAnswer } from './store.js'

/**
 * Adds a request to a batch. One of the two callbacks is called when the batch has been answered. Callbacks and not a
 * promise, because every promise on the path of a request costs time.
 */
export type Enqueue = (
  charges: readonly Charge[],
  answered: (answer: StoreAnswer) => void,
  failed: (error: unknown) => void
) => void

interface Waiting {
  readonly charges: readonly Charge[]
  readonly answered: (answer: StoreAnswer) => void
  readonly failed: (error: unknown) => void
}

/**
 * Flush at 16 waiting requests. Larger batches make the process and Redis wait for each
 * other instead of working in parallel.
 */
const MAX_BATCH = 16

/** With this many calls in flight, Redis has enough to do, and larger batches cost less per request. */
const BUSY_CALLS = 4
const MAX_BUSY_BATCH = 64

/** Upper bound of charges in one call: Lua can unpack about eight thousand keys. */
const MAX_CHARGES = 2_000

/** Longest time that requests wait for an earlier call: a slow call must not use up the deadlines of other requests. */
const MAX_HOLD_MS = 2

/**
 * Batches requests into calls of up to 16, or 64 under heavy load. With no call in flight, the requests of one turn
 * of the event loop are sent at its end. Otherwise a batch is sent when it is full, when no earlier call is in flight
 * any more, or after two milliseconds.
 */
export function createBatcher (takeAll: BatchStore['takeAll']): Enqueue {
  let waiting: Waiting[] = []
  let charged = 0
  let underWay = 0
  let scheduled = false
  let hold: NodeJS.Timeout | null = null

  function send (): void {
    if (hold !== null) clearTimeout(hold)
    hold = null
    const batch = waiting
    if (batch.length === 0) return
    waiting = []
    charged = 0
    underWay++
    takeAll(batch.map(({ charges }) => charges)).then(
      answers => {
        for (let i = 0; i < batch.length; i++) {
          const answer = answers[i]!
          if (answer instanceof Error) batch[i]!.failed(answer)
          else batch[i]!.answered(answer)
        }
      },
      (error: unknown) => { for (const { failed } of batch) failed(error) }
    ).finally(() => {
      underWay--
      if (underWay === 0 || isFull()) send()
    }).catch(() => {})
  }

  function isFull (): boolean {
    return waiting.length >= (underWay < BUSY_CALLS ? MAX_BATCH : MAX_BUSY_BATCH) || charged >= MAX_CHARGES
  }

  return (charges, answered, failed) => {
    waiting.push({ charges, answered, failed })
    charged += charges.length
    if (isFull()) send()
    else if (underWay > 0) hold ??= setTimeout(send, MAX_HOLD_MS)
    else if (!scheduled) {
      scheduled = true
      setImmediate(() => { scheduled = false; send() })
    }
  }
}

import type { BatchStore, Charge, StoreAnswer } from './store.js'

/** Gives a request to a call. Once the call is back, one of the two is called: not a promise, because every one in the way of a request costs it. */
export type Ask = (
  charges: readonly Charge[],
  answered: (answer: StoreAnswer) => void,
  failed: (error: unknown) => void
) => void

interface Waiting {
  readonly charges: readonly Charge[]
  readonly answered: (answer: StoreAnswer) => void
  readonly failed: (error: unknown) => void
}

/** Requests in one call. More would make the callers and Redis take turns instead of working side by side. */
const MAX_BATCH = 16

/** When so many calls are under way, Redis has enough to do, and larger ones cost everybody less. */
const BUSY_CALLS = 4
const MAX_BUSY_BATCH = 64

/** Lua can be given about eight thousand keys. */
const MAX_CHARGES = 2_000

/** A store that is slow with one call must not take the others' time to wait as well. */
const MAX_HOLD_MS = 2

/**
 * Gathers requests into calls of up to sixteen, or 64 under heavy load. When nothing is under way, what came in one turn of the event loop is
 * sent at its end; otherwise a call leaves when it is full, when an earlier one has come back, or after two milliseconds.
 */
export function createBatches (takeAll: BatchStore['takeAll']): Ask {
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

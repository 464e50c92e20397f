import type { BatchStore, Charge, StoreAnswer } from './store.js'

interface Waiting {
  readonly charges: readonly Charge[]
  readonly resolve: (answer: StoreAnswer) => void
  readonly reject: (error: unknown) => void
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
export function createBatches (takeAll: BatchStore['takeAll']): (charges: readonly Charge[]) => Promise<StoreAnswer> {
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
          if (answer instanceof Error) batch[i]!.reject(answer)
          else batch[i]!.resolve(answer)
        }
      },
      (error: unknown) => { for (const { reject } of batch) reject(error) }
    ).finally(() => {
      underWay--
      if (underWay === 0 || isFull()) send()
    }).catch(() => {})
  }

  function isFull (): boolean {
    return waiting.length >= (underWay < BUSY_CALLS ? MAX_BATCH : MAX_BUSY_BATCH) || charged >= MAX_CHARGES
  }

  return charges => new Promise((resolve, reject) => {
    waiting.push({ charges, resolve, reject })
    charged += charges.length
    if (isFull()) send()
    else if (underWay > 0) hold ??= setTimeout(send, MAX_HOLD_MS)
    else if (!scheduled) {
      scheduled = true
      setImmediate(() => { scheduled = false; send() })
    }
  })
}

import { performance } from 'node:perf_hooks'
import { withinDeadline } from '@marty/redis'
import { createBatches } from './batcher.js'
import { createBreaker, OPEN_FOR_MS } from './circuit-breaker.js'
import { StoreUnavailable } from '../errors.js'
import { createOutageLedger } from './local-fallback.js'
import type { BatchStore, Charge, LimitStore, StoreAnswer } from './store.js'

/**
 * What happens while the shared store does not answer: `local` counts in this process with the limit divided by
 * the number of instances, `closed` refuses with 503, `open` lets everything through.
 */
export type StoreFailureMode = 'local' | 'closed' | 'open'

export interface GuardedStoreOptions {
  readonly store: BatchStore
  /** Longest wait for one answer, in milliseconds. @default 50 */
  readonly deadlineMs?: number
  /** @default 'local' */
  readonly onFailure?: StoreFailureMode
  /**
   * How many processes share the store: each takes its part of the limit while it is gone. A function is asked at every
   * decision; Infinity, when it is not known, leaves one request in a window. @default 1
   */
  readonly instances?: number | (() => number)
  /** Bound of the local logs. @default 100000 */
  readonly maxKeys?: number
  /** Told when the store fails, for the log; at most once in ten seconds. */
  readonly onDegraded?: (error: Error) => void
}

const TELL_EVERY_MS = 10_000

/** Puts batches, a deadline and a breaker before a store that may be slow, frozen or gone, and answers in its place. */
export function createGuardedStore (options: GuardedStoreOptions): LimitStore {
  const { store, deadlineMs = 50, onFailure = 'local', instances = 1, maxKeys = 100_000, onDegraded } = options
  const ledger = createOutageLedger({ store, instances, maxKeys })
  const breaker = createBreaker()
  let toldAt = -Infinity

  const ask = createBatches(async requests => {
    try {
      // Not withdrawn when it is late: if the store still counts it, the caller loses one unit and no one gains one.
      const answers = await withinDeadline(deadlineMs, store.takeAll(requests), 'the store')
      breaker.succeeded()
      for (const answer of answers) if (answer instanceof Error) tell(answer)
      return answers
    } catch (error) {
      breaker.failed()
      tell(error instanceof Error ? error : new Error(String(error)))
      throw error
    }
  })

  function take (charges: readonly Charge[]): StoreAnswer | Promise<StoreAnswer> {
    const state = breaker.enter()
    if (state === 'open') return inPlace(charges)
    // Before anything more is asked of these budgets: batches keep their order. Not with a probe: what a frozen store is told, it may count later.
    if (state === 'closed') {
      ledger.settle(
        charges,
        async due =>
          await new Promise((resolve, reject) => {
            ask(due, resolve, reject)
          })
      )
    }
    return new Promise(resolve => { ask(charges, resolve, () => { resolve(fallback(charges)) }) })
  }

  async function fallback (charges: readonly Charge[]): Promise<StoreAnswer> {
    return inPlace(charges)
  }

  /** Closed when any of the rules is; what is open is not counted, and says that nothing is used. */
  function inPlace (charges: readonly Charge[]): StoreAnswer {
    const modes = charges.map(charge => charge.onFailure ?? onFailure)
    if (modes.includes('closed')) {
      throw new StoreUnavailable({ headers: { 'retry-after': String(Math.ceil(OPEN_FOR_MS / 1000)) } })
    }
    if (!modes.includes('local')) return { allowed: true, degraded: true, states: [] }
    if (!modes.includes('open')) return ledger.take(charges)
    const { allowed, states } = ledger.take(charges.filter((_, i) => modes[i] === 'local'))
    let next = 0
    return {
      allowed,
      degraded: true,
      states: charges.map(({ limit }, i) =>
        modes[i] === 'local' ? states[next++]! : { remaining: limit, resetUs: 0, retryUs: 0 }
      )
    }
  }

  function tell (error: Error): void {
    const now = performance.now()
    if (now - toldAt < TELL_EVERY_MS) return
    toldAt = now
    onDegraded?.(error)
  }

  return {
    take,
    async refund (charges, takenAtUs) {
      // Not repeated when it fails: the units leave with their window.
      await withinDeadline(deadlineMs, Promise.resolve(store.refund?.(charges, takenAtUs)), 'the store').catch(tell)
    }
  }
}

import { performance } from 'node:perf_hooks'
import { CircuitBreaker } from '@marty/core'
import { withinDeadline } from '@marty/redis/deadline'
import { StoreUnavailable } from '../errors.js'
import { createBatcher } from './batcher.js'
import { BREAKER, RESET_MS } from './breaker-options.js'
import { createLocalFallback } from './local-fallback.js'
import type { BatchStore, Charge, LimitStore, StoreAnswer } from './store.js'

/**
 * What happens while the shared store does not answer: `local` counts in this process with the limit divided by the
 * number of instances, `closed` refuses with 503, `open` admits everything.
 */
export type StoreFailureMode = 'local' | 'closed' | 'open'

export interface GuardedStoreOptions {
  readonly store: BatchStore
  /** Longest wait for the store, in milliseconds. @default 50 */
  readonly deadlineMs?: number
  /** @default 'local' */
  readonly onFailure?: StoreFailureMode
  /**
   * How many processes share the store; each admits its share of the limit while the store is unreachable. A function
   * is called for every decision. Infinity means that the number is unknown: one request per window is admitted.
   * @default 1
   */
  readonly instances?: number | (() => number)
  /** Maximum number of local windows. @default 100000 */
  readonly maxKeys?: number
  /** Called when the store fails, so that it can be logged; at most once in ten seconds. */
  readonly onDegraded?: (error: Error) => void
}

const REPORT_EVERY_MS = 10_000

/**
 * Adds batches, a deadline and a circuit breaker to a store that may be slow, frozen or
 * unreachable, and decides in its place.
 */
export function createGuardedStore (options: GuardedStoreOptions): LimitStore {
  const { store, deadlineMs = 50, onFailure = 'local', instances = 1, maxKeys = 100_000, onDegraded } = options
  const fallback = createLocalFallback({ store, instances, maxKeys })
  const breaker = new CircuitBreaker(BREAKER)
  let reportedAt = -Infinity

  const enqueue = createBatcher(async requests => {
    try {
      // A late call is not withdrawn: if the store still counts it, the caller loses its units, but no caller gains
      // any.
      const answers = await withinDeadline(deadlineMs, store.takeAll(requests), 'the store')
      breaker.succeeded()
      for (const answer of answers) if (answer instanceof Error) report(answer)
      return answers
    } catch (error) {
      breaker.failed()
      report(error instanceof Error ? error : new Error(String(error)))
      throw error
    }
  })

  function take (charges: readonly Charge[]): StoreAnswer | Promise<StoreAnswer> {
    const state = breaker.enter()
    if (state === 'open') return decideLocally(charges)
    // Replay the units of these budgets before charging them again; batches keep their order. Not together with a
    // probe, because a frozen store may still count the replay later.
    if (state === 'closed') {
      fallback.replay(charges, async unreplayed => {
        await new Promise((resolve, reject) => { enqueue(unreplayed, resolve, reject) })
      })
    }
    return new Promise(resolve => { enqueue(charges, resolve, () => { resolve(decideAfterFailure(charges)) }) })
  }

  /**
   * A promise, although nothing is awaited: a replay that failed in the same batch is noted before the caller goes on,
   * so that the next request can start another one.
   */
  async function decideAfterFailure (charges: readonly Charge[]): Promise<StoreAnswer> {
    return decideLocally(charges)
  }

  /** Fails closed if any of the rules does. Rules that are open are not counted and report that nothing is used. */
  function decideLocally (charges: readonly Charge[]): StoreAnswer {
    const modes = charges.map(charge => charge.onFailure ?? onFailure)
    if (modes.includes('closed')) {
      throw new StoreUnavailable({ headers: { 'retry-after': String(Math.ceil(RESET_MS / 1000)) } })
    }
    if (!modes.includes('local')) return { allowed: true, degraded: true, states: [] }
    if (!modes.includes('open')) return fallback.take(charges)
    const { allowed, states } = fallback.take(charges.filter((_, i) => modes[i] === 'local'))
    let next = 0
    return {
      allowed,
      degraded: true,
      states: charges.map(({ limit }, i) =>
        modes[i] === 'local' ? states[next++]! : { remaining: limit, resetUs: 0, retryUs: 0 }
      )
    }
  }

  function report (error: Error): void {
    const now = performance.now()
    if (now - reportedAt < REPORT_EVERY_MS) return
    reportedAt = now
    onDegraded?.(error)
  }

  return {
    take,
    async refund (charges, takenAtUs) {
      // A failed refund is not repeated: the units expire with their window.
      try {
        await withinDeadline(deadlineMs, Promise.resolve(store.refund?.(charges, takenAtUs)), 'the store')
      } catch (error) {
        report(error as Error)
        throw error
      }
    }
  }
}

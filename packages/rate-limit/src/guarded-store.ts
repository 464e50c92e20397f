import { performance } from 'node:perf_hooks'
import { createBatches } from './batches.js'
import { StoreUnavailable } from './errors.js'
import { createMemoryStore } from './memory-store.js'
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
  /** How many processes share the store: each takes its part of the limit while it is gone. @default 1 */
  readonly instances?: number
  /** Bound of the local logs. @default 100000 */
  readonly maxKeys?: number
  /** Told when the store fails, for the log; at most once in ten seconds. */
  readonly onDegraded?: (error: Error) => void
}

const FAILURES_TO_OPEN = 3
const OPEN_FOR_MS = 1000
const TELL_EVERY_MS = 10_000

/** Puts batches, a deadline and a breaker before a store that may be slow, frozen or gone, and answers in its place. */
export function createGuardedStore (options: GuardedStoreOptions): LimitStore {
  const { store, deadlineMs = 50, onFailure = 'local', instances = 1, onDegraded } = options
  const local = createMemoryStore(options.maxKeys === undefined ? {} : { maxKeys: options.maxKeys })
  /** Calls in a row, not requests: one lost call of many requests says no more than one of few. */
  let failures = 0
  let closedAt = 0
  let toldAt = -Infinity

  const ask = createBatches(async requests => {
    try {
      const answers = await within(deadlineMs, store.takeAll(requests))
      failures = 0
      return answers
    } catch (error) {
      failures++
      closedAt = performance.now() + OPEN_FOR_MS
      tell(error instanceof Error ? error : new Error(String(error)))
      throw error
    }
  })

  function take (charges: readonly Charge[]): StoreAnswer | Promise<StoreAnswer> {
    if (failures >= FAILURES_TO_OPEN) {
      const now = performance.now()
      if (now < closedAt) return fallback(charges)
      // This one is the probe; the others keep away until it has answered or its time is up.
      closedAt = now + OPEN_FOR_MS
    }
    return ask(charges).catch(() => fallback(charges))
  }

  /** Closed when any of the rules is; what is open is not counted, and says that nothing is used. */
  function fallback (charges: readonly Charge[]): StoreAnswer {
    const modes = charges.map(charge => charge.onFailure ?? onFailure)
    if (modes.includes('closed')) throw new StoreUnavailable({ headers: { 'retry-after': String(Math.ceil(OPEN_FOR_MS / 1000)) } })
    if (!modes.includes('local')) return { allowed: true, degraded: true, states: [] }
    const counted = charges.filter((_, i) => modes[i] === 'local')
    const { allowed, states } = local.take(counted.map(charge => ({ ...charge, limit: partOf(charge) }))) as StoreAnswer
    const stateOf = new Map(counted.map((charge, i) => [charge, states[i]!]))
    return { allowed, degraded: true, states: charges.map(charge => stateOf.get(charge) ?? { remaining: charge.limit, resetUs: 0, retryUs: 0 }) }
  }

  /** Never below one request, or a limit smaller than the number of instances would refuse everybody. */
  function partOf (charge: Charge): number {
    return Math.max(charge.cost, Math.floor(charge.limit / instances))
  }

  function tell (error: Error): void {
    const now = performance.now()
    if (now - toldAt < TELL_EVERY_MS) return
    toldAt = now
    onDegraded?.(error)
  }

  return { take }
}

/** The command is not withdrawn: if the store still counts it, the caller loses one unit and nobody gains one. */
export async function within<T> (deadlineMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const expired = new Promise<never>((resolve, reject) => {
    timer = setTimeout(() => { reject(new Error(`the store did not answer within ${deadlineMs} ms`)) }, deadlineMs)
  })
  try {
    return await Promise.race([work, expired])
  } finally {
    clearTimeout(timer)
  }
}

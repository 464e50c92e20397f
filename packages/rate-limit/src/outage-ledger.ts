import { performance } from 'node:perf_hooks'
import { createLocalLogs, type LocalLogs } from './memory-store.js'
import type { BatchStore, Charge, StoreAnswer } from './store.js'

export interface OutageLedgerOptions {
  /** The store that may be gone: asked for what it last said, never for a decision. */
  readonly store: BatchStore
  /** How many processes share the store. */
  readonly instances: number
  readonly maxKeys: number
}

/** Counts in this process while the shared store is gone, and keeps what the store has to be told afterwards. */
export interface OutageLedger {
  /** Decides with this process's part: an even share of the limit, or of what the store last said was left of it. */
  take (charges: readonly Charge[]): StoreAnswer
  /**
   * What was admitted here of these budgets and the store has not counted, as charges that it will not refuse; empty when there is
   * nothing. Each unit is given out once: `owe` takes it back when the store could not be told.
   */
  due (charges: readonly Charge[]): readonly Charge[]
  owe (charges: readonly Charge[]): void
}

/** Above every limit, and as much as the store can be told at once. */
const UNLIMITED = 2 ** 24 - 1
const NOTHING: readonly Charge[] = []

export function createOutageLedger ({ store, instances, maxKeys }: OutageLedgerOptions): OutageLedger {
  let local: LocalLogs = createLocalLogs({ maxKeys })
  /** What only this process knows of. */
  let owed: LocalLogs = createLocalLogs({ maxKeys })
  /** When the last stamp of both has left its window, by `performance.now()`; 0 when they are empty. */
  let untilMs = 0

  function take (charges: readonly Charge[]): StoreAnswer {
    const parts = charges.map(charge => ({ ...charge, limit: partOf(charge) }))
    for (const [i, charge] of charges.entries()) reserve(charge, parts[i]!.limit)
    const answer = local.take(parts)
    keep(charges)
    if (answer.allowed) owe(charges)
    return { ...answer, degraded: true }
  }

  /** Fills the log up to the part of the budget that was used already, until what the store knew of has left the window. */
  function reserve (charge: Charge, part: number): void {
    const known = store.lastKnown?.(charge) ?? null
    if (known === null || known.atMs + charge.windowMs <= performance.now()) return
    const left = Math.floor(part * (charge.limit - known.used) / charge.limit)
    const taken = part - left - local.units(charge)
    if (taken > 0) local.take([{ ...charge, limit: part, cost: taken }])
  }

  /** Never below one request, or a limit smaller than the number of instances would refuse everybody. */
  function partOf ({ cost, limit }: Charge): number {
    return Math.min(limit, Math.max(cost, Math.floor(limit / instances)))
  }

  function owe (charges: readonly Charge[]): void {
    owed.take(charges.map(charge => ({ ...charge, limit: UNLIMITED })))
    keep(charges)
  }

  function keep (charges: readonly Charge[]): void {
    const now = performance.now()
    for (const { windowMs } of charges) untilMs = Math.max(untilMs, now + windowMs)
  }

  function due (charges: readonly Charge[]): readonly Charge[] {
    if (untilMs === 0) return NOTHING
    if (untilMs <= performance.now()) {
      untilMs = 0
      local = createLocalLogs({ maxKeys })
      owed = createLocalLogs({ maxKeys })
      return NOTHING
    }
    return charges.flatMap(charge => {
      const cost = Math.min(owed.units(charge), UNLIMITED)
      owed.forget(charge)
      return cost === 0 ? [] : [{ ...charge, cost, limit: UNLIMITED, capacity: charge.capacity ?? charge.limit }]
    })
  }

  return { take, due, owe }
}

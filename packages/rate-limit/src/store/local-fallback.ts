import { performance } from 'node:perf_hooks'
import { createLocalLogs, keyOf, type LocalLogs } from './memory.js'
import { isBurst, type BatchStore, type Charge, type StoreAnswer } from './store.js'

export interface OutageLedgerOptions {
  /** The store that may be gone: asked for what it last said, never for a decision. */
  readonly store: BatchStore
  /** How many processes share the store, as a number or asked at every decision. */
  readonly instances: number | (() => number)
  readonly maxKeys: number
}

/** Counts in this process while the shared store is gone, and keeps what the store has to be told afterwards. */
export interface OutageLedger {
  /** Decides with this process's part: an even share of the limit, or of what the store last said was left of it. */
  take (charges: readonly Charge[]): StoreAnswer
  /**
   * Has the store told what was admitted here of these budgets, as charges that it cannot refuse. What it could not be told is
   * told another time, until it has left the window; nothing is told twice at once.
   */
  settle (charges: readonly Charge[], tell: (due: readonly Charge[]) => Promise<unknown>): void
}

/** Above every limit, and as much as the store can be told at once. */
const UNLIMITED = 2 ** 24 - 1

export function createOutageLedger ({ store, instances, maxKeys }: OutageLedgerOptions): OutageLedger {
  let local: LocalLogs = createLocalLogs({ maxKeys })
  /** What only this process knows of. */
  let owed: LocalLogs = createLocalLogs({ maxKeys })
  /** Of which the store is being told. */
  const telling = new Set<string>()
  /** When the last stamp of both has left its window, by `performance.now()`; 0 when they are empty. */
  let untilMs = 0

  function take (charges: readonly Charge[]): StoreAnswer {
    const parts = charges.map(charge => ({ ...charge, limit: partOf(charge) }))
    for (const [i, charge] of charges.entries()) reserve(charge, parts[i]!.limit)
    const answer = local.take(parts)
    if (answer.allowed) {
      owed.take(charges.filter(charge => !isBurst(charge)).map(charge => ({ ...charge, limit: UNLIMITED })))
    }
    const now = performance.now()
    for (const { windowMs } of charges) untilMs = Math.max(untilMs, now + windowMs)
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
    const count = typeof instances === 'number' ? instances : instances()
    return Math.min(limit, Math.max(cost, Math.floor(limit / count)))
  }

  function settle (charges: readonly Charge[], tell: (due: readonly Charge[]) => Promise<unknown>): void {
    if (untilMs === 0) return
    if (untilMs <= performance.now()) {
      untilMs = 0
      local = createLocalLogs({ maxKeys })
      owed = createLocalLogs({ maxKeys })
      return
    }
    const due = charges.flatMap(charge => {
      const cost = isBurst(charge) || telling.has(keyOf(charge)) ? 0 : owed.units(charge)
      return cost === 0 ? [] : [{ ...charge, cost, limit: UNLIMITED, capacity: charge.capacity ?? charge.limit }]
    })
    if (due.length === 0) return
    for (const charge of due) telling.add(keyOf(charge))
    tell(due).then(() => { for (const charge of due) owed.drop(charge) }, () => {}).finally(() => {
      for (const charge of due) telling.delete(keyOf(charge))
    }).catch(() => {})
  }

  return { take, settle }
}

import { performance } from 'node:perf_hooks'
import { createLocalWindows, keyOf, type LocalWindows } from './memory.js'
import { isBurst, type BatchStore, type Charge, type StoreAnswer } from './store.js'

export interface LocalFallbackOptions {
  /** The store that may be unreachable: only its last known states are read, it is not called for decisions. */
  readonly store: BatchStore
  /** How many processes share the store; a function is called for every decision. */
  readonly instances: number | (() => number)
  readonly maxKeys: number
}

/** Counts in this process while the shared store is unreachable, and keeps the units to replay to it. */
export interface LocalFallback {
  /** Decides with this process's share: an even part of the limit, or of what the store last reported as left. */
  take (charges: readonly Charge[]): StoreAnswer
  /**
   * Replays the units of these budgets that were admitted here, as charges that the store cannot refuse. Units whose
   * replay fails are replayed another time, until they have left the window. No unit is in two replays together.
   */
  replay (charges: readonly Charge[], send: (units: readonly Charge[]) => Promise<unknown>): void
}

/** A limit above every real one; also the most units that one charge can carry to the store. */
const UNLIMITED = 2 ** 24 - 1

export function createLocalFallback ({ store, instances, maxKeys }: LocalFallbackOptions): LocalFallback {
  let local: LocalWindows = createLocalWindows({ maxKeys })
  /** Admitted units that have not been replayed. */
  let unreplayed: LocalWindows = createLocalWindows({ maxKeys })
  /** Keys of the budgets whose replay is in flight. */
  const replaying = new Set<string>()
  /** When the last timestamp of both has left its window, by `performance.now()`; 0 when they are empty. */
  let untilMs = 0

  function take (charges: readonly Charge[]): StoreAnswer {
    const parts = charges.map(charge => ({ ...charge, limit: partOf(charge) }))
    for (const [i, charge] of charges.entries()) reserve(charge, parts[i]!.limit)
    const answer = local.take(parts)
    if (answer.allowed) {
      unreplayed.take(charges.filter(charge => !isBurst(charge)).map(charge => ({ ...charge, limit: UNLIMITED })))
    }
    const now = performance.now()
    for (const { windowMs } of charges) untilMs = Math.max(untilMs, now + windowMs)
    return { ...answer, degraded: true }
  }

  /**
   * Marks as used the part of this share that was used already, until the units that
   * the store knew of have left the window.
   */
  function reserve (charge: Charge, part: number): void {
    const known = store.lastKnown?.(charge) ?? null
    if (known === null || known.atMs + charge.windowMs <= performance.now()) return
    const left = Math.floor(part * (charge.limit - known.used) / charge.limit)
    const taken = part - left - local.units(charge)
    if (taken > 0) local.take([{ ...charge, limit: part, cost: taken }])
  }

  /** At least one request; otherwise a limit below the number of instances would refuse every caller. */
  function partOf ({ cost, limit }: Charge): number {
    const count = typeof instances === 'number' ? instances : instances()
    return Math.min(limit, Math.max(cost, Math.floor(limit / count)))
  }

  function replay (charges: readonly Charge[], send: (units: readonly Charge[]) => Promise<unknown>): void {
    if (untilMs === 0) return
    if (untilMs <= performance.now()) {
      untilMs = 0
      local = createLocalWindows({ maxKeys })
      unreplayed = createLocalWindows({ maxKeys })
      return
    }
    const due = charges.flatMap(charge => {
      const cost = isBurst(charge) || replaying.has(keyOf(charge)) ? 0 : unreplayed.units(charge)
      return cost === 0 ? [] : [{ ...charge, cost, limit: UNLIMITED, capacity: charge.capacity ?? charge.limit }]
    })
    if (due.length === 0) return
    for (const charge of due) replaying.add(keyOf(charge))
    send(due).then(() => { for (const charge of due) unreplayed.drop(charge) }, () => {}).finally(() => {
      for (const charge of due) replaying.delete(keyOf(charge))
    }).catch(() => {})
  }

  return { take, replay }
}

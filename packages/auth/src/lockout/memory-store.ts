import type { LockoutLimits } from './options.js'

/** Counts failures in this process. Times are milliseconds. */
export interface MemoryLockoutStore {
  /** How long the pair must wait; 0 when it may try. */
  wait (pair: string): number
  /** Records a failure; returns whether it locks the pair. A failure during a lock changes nothing. */
  fail (pair: string): boolean
  clear (pair: string): void
  close (): void
}

/** About 35 MB at the default limits. */
const MAX_PAIRS = 100_000
/**
 * How many pairs are dropped together. Dropping them one by one is slow: to find its oldest entry, a
 * Map walks over all entries deleted before it.
 */
const BATCH = 1_000

/**
 * When full, drops locks that have ended first, then the pairs that failed longest ago, and active
 * locks last.
 */
export function createMemoryLockoutStore (
  { maxFailures, windowMs, lockMs }: LockoutLimits,
  now: () => number
): MemoryLockoutStore {
  // Both are ordered by the latest failure. A pair is in only one of them.
  const failing = new Map<string, readonly number[]>()
  const lockedUntil = new Map<string, number>()

  function makeRoom (time: number): void {
    if (failing.size + lockedUntil.size < MAX_PAIRS) return
    const left = dropOldest(lockedUntil, BATCH, until => until <= time)
    dropOldest(lockedUntil, dropOldest(failing, left))
  }

  return {
    wait (pair) {
      const time = now()
      const until = lockedUntil.get(pair)
      if (until !== undefined) return Math.max(0, until - time)
      const failures = failing.get(pair)
      if (failures === undefined || failures.length < 2) return 0
      return Math.max(0, failures.at(-1)! + Math.min(lockMs, 1000 * 2 ** (failures.length - 2)) - time)
    },

    fail (pair) {
      const time = now()
      if ((lockedUntil.get(pair) ?? -Infinity) > time) return false
      const failures = (failing.get(pair) ?? []).filter(at => at > time - windowMs)
      failures.push(time)
      failing.delete(pair)
      lockedUntil.delete(pair)
      makeRoom(time)
      const locks = failures.length >= maxFailures
      if (locks) lockedUntil.set(pair, time + lockMs)
      else failing.set(pair, failures)
      return locks
    },

    clear (pair) {
      failing.delete(pair)
      lockedUntil.delete(pair)
    },

    close () {
      failing.clear()
      lockedUntil.clear()
    }
  }
}

/** Drops up to `count` of the oldest entries; returns how many it could not drop. */
function dropOldest<T> (map: Map<string, T>, count: number, mayDrop: (value: T) => boolean = () => true): number {
  for (const [pair, value] of map) {
    if (count === 0 || !mayDrop(value)) break
    map.delete(pair)
    count--
  }
  return count
}

import { delayMs, type LockoutStore } from './lockout.js'
import type { ResolvedLockout } from './lockout-options.js'

interface Pair {
  failures: number
  readonly firstAt: number
  waitUntil: number
}

/** How many of the oldest are looked at for one that is not locked. */
const LOOKED_AT = 16

/** Counts at most `max` pairs in this process; beyond, old ones that are not locked are forgotten first. */
export function createMemoryLockoutStore (options: ResolvedLockout, clock: () => number, max = 100_000): LockoutStore {
  const pairs = new Map<string, Pair>()
  const windowMs = options.windowSeconds * 1000

  const find = (name: string): Pair | undefined => {
    const pair = pairs.get(name)
    if (pair === undefined) return undefined
    const now = clock()
    // A lock that is over gives all tries back.
    const isOver = pair.failures >= options.maxFailures ? pair.waitUntil <= now : pair.firstAt + windowMs <= now && pair.waitUntil <= now
    if (!isOver) return pair
    pairs.delete(name)
    return undefined
  }

  const makeRoom = (): void => {
    if (pairs.size < max) return
    let looked = 0
    let victim: string | undefined
    for (const [name, pair] of pairs) {
      victim ??= name
      if (pair.failures < options.maxFailures) {
        victim = name
        break
      }
      if (++looked === LOOKED_AT) break
    }
    pairs.delete(victim!)
  }

  return {
    waitMs: async name => Math.max(0, (find(name)?.waitUntil ?? 0) - clock()),
    async fail (name) {
      const now = clock()
      let pair = find(name)
      if (pair === undefined) {
        makeRoom()
        pairs.set(name, pair = { failures: 0, firstAt: now, waitUntil: 0 })
      }
      pair.failures++
      const waitMs = delayMs(pair.failures, options)
      // Failures that were under way when the lock fell do not lengthen it.
      if (pair.failures <= options.maxFailures) pair.waitUntil = now + waitMs
      return { waitMs: pair.waitUntil - now, locked: pair.failures === options.maxFailures }
    },
    async clear (name) { pairs.delete(name) }
  }
}

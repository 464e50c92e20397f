import { availableParallelism } from 'node:os'
import { AuthBusy } from '../errors.js'

/** Limits concurrent slow hashing, so that the process stays responsive. */
export interface HashGate {
  /**
   * Runs the work when it is its turn. `first` puts it before all waiting work; it is for keys that
   * were verified before. Throws `MARTY_AUTH_BUSY` when too many wait already.
   */
  run<T> (lane: string, work: () => Promise<T>, first?: boolean): Promise<T>
}

export interface HashGateLimits {
  /** Maximum number of concurrent hashes over all lanes. @default the processor's cores - 1, from 1 to 3 */
  readonly concurrency?: number
  /** Maximum number of waiting hashes over all lanes. @default 32 */
  readonly queue?: number
  /**
   * Maximum number of waiting hashes in one lane, which runs one at a time. A flood of wrong secrets
   * for one key thus leaves the others usable.
   * @default 8
   */
  readonly laneQueue?: number
}

interface Waiting {
  readonly lane: string
  readonly first: boolean
  start (): void
}

export function createHashGate (limits: HashGateLimits = {}): HashGate {
  // libuv has four threads by default, and file access and DNS need one of them.
  const { concurrency = Math.min(3, Math.max(1, availableParallelism() - 1)), queue = 32, laneQueue = 8 } = limits
  const running = new Set<string>()
  const waiting: Waiting[] = []

  const startNext = (): void => {
    for (let i = 0; i < waiting.length && running.size < concurrency;) {
      const next = waiting[i]!
      if (running.has(next.lane)) {
        i++
        continue
      }
      waiting.splice(i, 1)
      running.add(next.lane)
      next.start()
    }
  }

  return {
    async run (lane, work, first = false) {
      if (running.size >= concurrency || running.has(lane)) {
        if (!first && (waiting.length >= queue || waiting.filter(one => one.lane === lane).length >= laneQueue)) {
          throw new AuthBusy({ headers: { 'retry-after': '1' } })
        }
        const place = first ? waiting.findIndex(one => !one.first) : -1
        await new Promise<void>(resolve => {
          waiting.splice(place === -1 ? waiting.length : place, 0, { lane, first, start: resolve })
        })
      } else {
        running.add(lane)
      }
      try {
        return await work()
      } finally {
        running.delete(lane)
        startNext()
      }
    }
  }
}

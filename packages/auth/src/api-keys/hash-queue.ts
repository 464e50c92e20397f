import type { OptionTable } from '@marty/core'
import { availableParallelism } from 'node:os'
import { AuthBusy } from '../errors.js'

export interface HashQueueLimits {
  /** Maximum number of concurrent hashes. @default the processor's cores - 1, from 1 to 3 */
  readonly concurrency?: number
  /** Maximum number of waiting hashes. @default 32 */
  readonly maxWaiting?: number
  /**
   * Maximum number of waiting hashes for one key, which are done one at a time. A flood of wrong secrets
   * for one key thus leaves the others usable.
   * @default 8
   */
  readonly maxWaitingPerKey?: number
}

export const HASHING_OPTIONS: OptionTable<HashQueueLimits> = {
  concurrency: {
    kind: 'integer',
    min: 1,
    max: 1_024,
    // libuv has four threads by default, and file access and DNS need one of them.
    default: Math.min(3, Math.max(1, availableParallelism() - 1)),
    defaultText: 'cores - 1, from 1 to 3',
    about: 'Maximum number of concurrent hashes.'
  },
  maxWaiting: { kind: 'integer', min: 0, max: 1_024, default: 32, about: 'Maximum number of waiting hashes.' },
  maxWaitingPerKey: {
    kind: 'integer',
    min: 0,
    max: 1_024,
    default: 8,
    about: 'Maximum number of waiting hashes for one key.'
  }
}

interface Waiting {
  readonly keyId: string
  readonly isFirst: boolean
  start (): void
}

/** Limits concurrent slow hashing, so that the process stays responsive. */
export class HashQueue {
  readonly #concurrency: number
  readonly #maxWaiting: number
  readonly #maxWaitingPerKey: number
  readonly #running = new Set<string>()
  readonly #waiting: Waiting[] = []

  constructor ({ concurrency, maxWaiting, maxWaitingPerKey }: Required<HashQueueLimits>) {
    this.#concurrency = concurrency
    this.#maxWaiting = maxWaiting
    this.#maxWaitingPerKey = maxWaitingPerKey
  }

  /**
   * Runs the work when it is its turn; work of the same key runs one at a time. `isFirst` puts it before
   * all waiting work; it is for keys that were verified before. Throws `MARTY_AUTH_BUSY` when too many
   * wait already.
   */
  async run<T> (keyId: string, work: () => Promise<T>, isFirst = false): Promise<T> {
    if (this.#running.size >= this.#concurrency || this.#running.has(keyId)) {
      if (!isFirst && this.#isFull(keyId)) throw new AuthBusy({ headers: { 'retry-after': '1' } })
      await this.#turnOf(keyId, isFirst)
    } else {
      this.#running.add(keyId)
    }
    try {
      return await work()
    } finally {
      this.#running.delete(keyId)
      this.#startNext()
    }
  }

  #isFull (keyId: string): boolean {
    return this.#waiting.length >= this.#maxWaiting ||
      this.#waiting.filter(one => one.keyId === keyId).length >= this.#maxWaitingPerKey
  }

  #turnOf (keyId: string, isFirst: boolean): Promise<void> {
    const firstOfOthers = isFirst ? this.#waiting.findIndex(one => !one.isFirst) : -1
    const position = firstOfOthers === -1 ? this.#waiting.length : firstOfOthers
    return new Promise(resolve => {
      this.#waiting.splice(position, 0, { keyId, isFirst, start: resolve })
    })
  }

  #startNext (): void {
    for (let i = 0; i < this.#waiting.length && this.#running.size < this.#concurrency;) {
      const next = this.#waiting[i]!
      if (this.#running.has(next.keyId)) {
        i++
        continue
      }
      this.#waiting.splice(i, 1)
      this.#running.add(next.keyId)
      next.start()
    }
  }
}

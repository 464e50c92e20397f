import { addressKey } from '@marty/core'
import { hash } from 'node:crypto'
import { AuthLocked } from './errors.js'
import { createMemoryLockoutStore } from './lockout-store-memory.js'
import { createRedisLockoutStore } from './lockout-store-redis.js'
import type { ResolvedLockout } from './lockout-options.js'
import type { ResolvedAuthStore } from './store-options.js'

/**
 * Slows repeated failures down, and then locks. What is counted is an account together with an address (IPv6 by /64), so
 * that a stranger can lock nobody out but himself: the account's owner comes from elsewhere. The second failure
 * makes the next try wait a second, each further one twice as long; the last one allowed locks the pair.
 */
export interface Lockout {
  /** Rejects with `MARTY_AUTH_LOCKED` while the pair has to wait. */
  check (account: string, address: string | null): Promise<void>
  fail (account: string, address: string | null): Promise<void>
  /** Forgets the failures of the pair. */
  succeed (account: string, address: string | null): Promise<void>
}

/** Where failures are counted, by the name of a pair. Times are milliseconds. */
export interface LockoutStore {
  /** How long the pair has to wait; 0 when it may try. */
  waitMs (pair: string): Promise<number>
  /** Counts a failure; answers how long the pair has to wait now, and whether this one locked it. */
  fail (pair: string): Promise<{ readonly waitMs: number, readonly locked: boolean }>
  clear (pair: string): Promise<void>
}

export interface LockoutEvents {
  /** Told when a pair is locked. */
  readonly onLocked?: (account: string, address: string | null, forMs: number) => void
  /** Told, at most once in ten seconds, that the shared store does not answer and failures are counted here. */
  readonly onProblem?: (error: unknown) => void
}

const TELL_EVERY_MS = 10_000

/** `clock` tells the time in milliseconds, for the failures that are counted in this process. */
export function createLockout (store: ResolvedAuthStore, options: ResolvedLockout, { onLocked, onProblem }: LockoutEvents = {}, clock: () => number = Date.now): Lockout {
  const local = createMemoryLockoutStore(options, clock)
  const shared = store === 'memory' ? null : createRedisLockoutStore(store, options)
  let toldAt = -Infinity

  /** While the shared store is gone each replica counts for itself: more tries than intended, never as many as one likes. */
  async function ask<Answer> (question: (store: LockoutStore) => Promise<Answer>): Promise<Answer> {
    if (shared === null) return await question(local)
    try {
      return await question(shared)
    } catch (error) {
      const now = performance.now()
      if (now - toldAt >= TELL_EVERY_MS) {
        toldAt = now
        onProblem?.(error)
      }
      return await question(local)
    }
  }

  return {
    async check (account, address) {
      const waitMs = await ask(async store => await store.waitMs(pairOf(account, address)))
      if (waitMs > 0) throw new AuthLocked({ headers: { 'retry-after': String(Math.ceil(waitMs / 1000)) }, data: { retry_after_ms: Math.ceil(waitMs) } })
    },
    async fail (account, address) {
      const { waitMs, locked } = await ask(async store => await store.fail(pairOf(account, address)))
      if (locked) onLocked?.(account, address, waitMs)
    },
    async succeed (account, address) {
      await ask(async store => { await store.clear(pairOf(account, address)) })
    }
  }
}

/** How long the n-th failure makes the next try wait, in milliseconds. */
export function delayMs (failures: number, { maxFailures, lockSeconds }: ResolvedLockout): number {
  if (failures >= maxFailures) return lockSeconds * 1000
  return failures < 2 ? 0 : Math.min(2 ** (failures - 2), lockSeconds) * 1000
}

/** Both parts come from strangers: what is kept of them has a fixed length, and they cannot run into each other. */
function pairOf (account: string, address: string | null): string {
  return hash('sha256', `${account.length}:${account} ${addressKey(address)}`, 'base64url').slice(0, 22)
}

import { addressKey } from '@marty/core'
import { hash } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { AccountLocked } from '../errors.js'
import { resolveLockoutLimits, type LockoutOptions } from './options.js'
import { createMemoryLockoutStore } from './memory-store.js'
import { createRedisLockoutStore } from './redis-store.js'
import { resolveStore, type AuthStore } from '../store-options.js'

/**
 * Delays and then blocks guesses at one account from one address. Other addresses are not affected. An
 * account is any name that a secret belongs to, whether it exists or not, in one spelling.
 */
export interface Lockout {
  /**
   * Throws `MARTY_AUTH_LOCKED` when this account must wait at this address. Call it before the secret
   * is checked.
   */
  check (account: string, address: string | null): void | Promise<void>
  /** Records a wrong secret. Never rejects. */
  fail (account: string, address: string | null): void | Promise<void>
  /** Clears the failures of this account at this address. Never rejects. */
  succeed (account: string, address: string | null): void | Promise<void>
  /** Clears the state of this process and stops reporting problems. */
  close (): void
}

export interface LockoutSettings extends LockoutOptions {
  /**
   * Called once for each lock; `until` is in milliseconds since the epoch. The account is untrusted
   * input of any length and content.
   */
  readonly onLocked?: (account: string, address: string | null, until: number) => void
  /** Called, at most every ten seconds, when Redis fails and this process counts alone. */
  readonly onProblem?: (error: Error) => void
  /** Returns milliseconds from any origin. If it steps back, no time has passed. @default performance.now */
  readonly clock?: () => number
}

const REPORT_EVERY_MS = 10_000

/**
 * Creates a lockout. The second failure causes a wait of 1 s, each further one doubles it, and the last
 * of `maxFailures` within the window locks the pair. Attempts during a wait are refused and not
 * counted. While Redis is unavailable, each process uses the failures it has seen itself.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 * @example
 * const lockout = createLockout({ redis: openRedis({ url }).client })
 * await lockout.check(name, request.ip)
 * if (await isPasswordOf(name, password)) await lockout.succeed(name, request.ip)
 * else await lockout.fail(name, request.ip)
 */
export function createLockout (store: AuthStore, settings: LockoutSettings = {}): Lockout {
  const { onLocked, onProblem, clock = () => performance.now(), ...options } = settings
  const limits = resolveLockoutLimits(options)
  const resolved = resolveStore(store)
  const now = forwardOnly(clock)
  const local = createMemoryLockoutStore(limits, now)
  const shared = resolved === 'memory' ? null : createRedisLockoutStore(resolved, limits)
  let reportAfter = -Infinity

  function report (error: unknown): void {
    if (now() < reportAfter) return
    reportAfter = now() + REPORT_EVERY_MS
    onProblem?.(error as Error)
  }

  return {
    check (account, address) {
      const pair = pairOf(account, address)
      if (shared === null) return refuseDuring(local.wait(pair))
      return shared.wait(pair).catch(error => { report(error); return local.wait(pair) }).then(refuseDuring)
    },

    fail (account, address) {
      const pair = pairOf(account, address)
      const reportLock = (isLocked: boolean): void => {
        if (isLocked) onLocked?.(account, address, Date.now() + limits.lockMs)
      }
      // Always count locally as well: when Redis fails, pairs that this process has seen locked must stay
      // locked.
      const isLocked = local.fail(pair)
      if (shared === null) return reportLock(isLocked)
      return shared.fail(pair).catch(error => { report(error); return isLocked }).then(reportLock)
    },

    succeed (account, address) {
      const pair = pairOf(account, address)
      local.clear(pair)
      return shared?.clear(pair).catch(report)
    },

    close () {
      local.close()
      reportAfter = Infinity
    }
  }
}

/**
 * The unit that is locked: account and address, hashed to a fixed length whatever the caller sends. An
 * address key contains no space, so the two parts cannot be confused.
 */
function pairOf (account: string, address: string | null): string {
  return hash('sha256', `${addressKey(address)} ${account}`, 'base64url')
}

function refuseDuring (waitMs: number): void {
  if (waitMs <= 0) return
  const seconds = Math.ceil(waitMs / 1000)
  throw new AccountLocked({ headers: { 'retry-after': String(seconds) }, data: { retry_after_ms: Math.ceil(waitMs) } })
}

/** A clock that is set back would otherwise prolong every lock by the same amount. */
function forwardOnly (clock: () => number): () => number {
  let seen = clock()
  let elapsed = 0
  return () => {
    const time = clock()
    elapsed += Math.max(0, time - seen)
    seen = time
    return elapsed
  }
}

import { addressKey } from '@marty/core'
import { hash } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { AccountLocked } from '../errors.js'
import { limitsOf, type LockoutOptions } from './options.js'
import { createMemoryLockoutStore } from './memory-store.js'
import { createRedisLockoutStore } from './redis-store.js'
import { resolveStore, type AuthStore } from '../store-options.js'

/**
 * Slows down and then stops guessing at one account from one address; other addresses of the account are not touched.
 * An account is whatever name the secret belongs to, known or not, in one spelling.
 */
export interface Lockout {
  /** Throws `MARTY_AUTH_LOCKED` when this account must wait at this address. Ask before the secret is looked at. */
  check (account: string, address: string | null): void | Promise<void>
  /** Counts a wrong secret. Never rejects. */
  fail (account: string, address: string | null): void | Promise<void>
  /** Forgets the failures of this account at this address. Never rejects. */
  succeed (account: string, address: string | null): void | Promise<void>
  /** Forgets what this process remembers, and tells of no more problems. */
  close (): void
}

export interface LockoutSettings extends LockoutOptions {
  /** Told once for each lock; `until` is in milliseconds since the epoch. The account is the caller's text: as long and as odd as they like. */
  readonly onLocked?: (account: string, address: string | null, until: number) => void
  /** Told that Redis fails and this process counts alone, at most once in ten seconds. */
  readonly onProblem?: (error: Error) => void
  /** Milliseconds of any origin. A step back counts as no time. @default performance.now */
  readonly clock?: () => number
}

const TELL_EVERY_MS = 10_000

/**
 * The second failure costs a wait of 1 s, each further one twice that, and the last of `maxFailures` within the
 * window a lock. What is tried too early is refused and counts as nothing. While Redis is away, each process goes by
 * the failures that it has seen itself.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 * @example
 * const lockout = createLockout({ redis: openRedis({ url }).client })
 * await lockout.check(name, request.ip)
 * if (await isPasswordOf(name, password)) await lockout.succeed(name, request.ip)
 * else await lockout.fail(name, request.ip)
 */
export function createLockout (store: AuthStore, settings: LockoutSettings = {}): Lockout {
  const { onLocked, onProblem, clock = () => performance.now() } = settings
  const limits = limitsOf(settings)
  const resolved = resolveStore(store)
  const now = forwardOnly(clock)
  const local = createMemoryLockoutStore(limits, now)
  const shared = resolved === 'memory' ? null : createRedisLockoutStore(resolved, limits)
  let tellAfter = -Infinity

  function tell (error: unknown): void {
    if (now() < tellAfter) return
    tellAfter = now() + TELL_EVERY_MS
    onProblem?.(error as Error)
  }

  return {
    check (account, address) {
      const pair = pairOf(account, address)
      if (shared === null) return refuse(local.wait(pair))
      return shared.wait(pair).catch(error => { tell(error); return local.wait(pair) }).then(refuse)
    },

    fail (account, address) {
      const pair = pairOf(account, address)
      const told = (locks: boolean): void => { if (locks) onLocked?.(account, address, Date.now() + limits.lockMs) }
      // Counted here in any case: an outage must not open what this process has seen locked.
      const locks = local.fail(pair)
      if (shared === null) return told(locks)
      return shared.fail(pair).catch(error => { tell(error); return locks }).then(told)
    },

    succeed (account, address) {
      const pair = pairOf(account, address)
      local.clear(pair)
      return shared?.clear(pair).catch(tell)
    },

    close () {
      local.close()
      tellAfter = Infinity
    }
  }
}

/** The unit that is locked, at a fixed length whatever the caller sends. An address key holds no space. */
function pairOf (account: string, address: string | null): string {
  return hash('sha256', `${addressKey(address)} ${account}`, 'base64url')
}

function refuse (waitMs: number): void {
  if (waitMs <= 0) return
  const seconds = Math.ceil(waitMs / 1000)
  throw new AccountLocked({ headers: { 'retry-after': String(seconds) }, data: { retry_after_ms: Math.ceil(waitMs) } })
}

/** A clock that was set back would prolong every lock by as much. */
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

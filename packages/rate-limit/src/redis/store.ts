import { performance } from 'node:perf_hooks'
import { CircuitBreaker } from '@marty/core'
import { withinDeadline } from '@marty/redis/deadline'
import { redisScript, type ScriptClient } from '@marty/redis/script'
import { BREAKER } from '../store/breaker-options.js'
import { DEFAULT_PREFIX, GROUPS, windowName } from './key.js'
import { packRequests, readAnswers, type Entry, type Reply, type StoredWindow } from './codec.js'
import { PACKED_LIMIT, REFUND_SCRIPT, TAKE_SCRIPT } from './script.js'
import {
  isBurst, type BatchStore, type Charge, type ChargeState, type LimitStore, type StoreAnswer
} from '../store/store.js'

export interface RedisStoreOptions {
  /** An ioredis client, single or cluster. */
  readonly redis: ScriptClient & { readonly isCluster?: boolean }
  /** Prefix of every key. @default 'marty:limit' */
  readonly prefix?: string
  /**
   * On a cluster, how long one slot may delay requests for the other slots, in milliseconds.
   * @default the client's own timeout
   */
  readonly deadlineMs?: number
}

/** The part of a request that one call decides. */
interface Part {
  readonly entries: readonly Entry[]
  answer: StoreAnswer | null
  /** When the part was decided, by the clock of Redis. */
  atUs: number
}

const runTake = redisScript(TAKE_SCRIPT, { answer: 'buffer' })
const runRefund = redisScript(REFUND_SCRIPT)

const MAX_REMEMBERED = 100_000

/**
 * Keeps the windows in Redis: exact across all processes that share it. Rejects when Redis
 * does; see `createGuardedStore`.
 */
export function createRedisStore (options: RedisStoreOptions): LimitStore & BatchStore {
  const { redis, prefix = DEFAULT_PREFIX, deadlineMs } = options
  const isCluster = redis.isCluster === true
  const windows = createWindows(prefix, isCluster)
  const breakers = Array.from({ length: isCluster ? GROUPS : 0 }, () => new CircuitBreaker(BREAKER))

  async function takeAll (requests: ReadonlyArray<readonly Charge[]>): Promise<Array<StoreAnswer | Error>> {
    windows.forgetSome()
    const entries = requests.map(entriesOf)
    return isCluster ? await takeInGroups(entries) : (await take(entries)).answers
  }

  function entriesOf (charges: readonly Charge[]): Entry[] {
    const entries: Entry[] = []
    for (let i = 0; i < charges.length; i++) {
      const charge = charges[i]!
      const next = charges[i + 1]
      const burst = next !== undefined && isBurst(next) ? next : null
      if (
        isBurst(charge) ||
        (burst !== null &&
          (burst.windowOf !== charge.rule || burst.subject !== charge.subject || burst.cost !== charge.cost))
      ) {
        throw new TypeError(
          `The charge of a burst does not follow that of its rule: ${charges.map(({ rule }) => rule).join(', ')}`
        )
      }
      entries.push({ window: windows.of(charge), charge, burst })
      if (burst !== null) i++
    }
    return entries
  }

  /** Decides requests whose windows are all in one slot, with one call. */
  async function take (requests: ReadonlyArray<readonly Entry[]>): Promise<Reply> {
    const { keys, rules, charges } = packRequests(requests)
    const reply = readAnswers(await runTake(redis, keys, [rules, charges]), requests)
    const heardAtMs = performance.now()
    for (let i = 0; i < requests.length; i++) {
      const { states } = reply.answers[i]!
      let s = 0
      for (const { window, charge, burst } of requests[i]!) {
        window.used = charge.limit - states[s++]!.remaining
        if (burst !== null) window.usedInBurst = burst.limit - states[s++]!.remaining
        window.heardAtMs = heardAtMs
      }
    }
    return reply
  }

  /**
   * In a cluster, the windows of one request may be in several slots, which no script can decide together. All slots
   * are called in parallel, and those that admitted what another slot refused must refund it. Until then they count too
   * many units, so other requests may be refused a moment early, but none is admitted above a limit. A slot without a
   * master affects only the requests that need it, because each slot has its own circuit breaker.
   */
  async function takeInGroups (requests: ReadonlyArray<readonly Entry[]>): Promise<Array<StoreAnswer | Error>> {
    const groups = new Map<number, Part[]>()
    const partsOf = requests.map(entries => {
      const parts = new Map<number, Entry[]>()
      for (const entry of entries) {
        const part = parts.get(entry.window.group)
        if (part === undefined) parts.set(entry.window.group, [entry])
        else part.push(entry)
      }
      return [...parts].map(([group, mine]) => {
        const part: Part = { entries: mine, answer: null, atUs: 0 }
        const others = groups.get(group)
        if (others === undefined) groups.set(group, [part])
        else others.push(part)
        return part
      })
    })
    const outcomes = await Promise.allSettled([...groups].map(async ([group, parts]) => {
      const breaker = breakers[group]!
      if (breaker.enter() === 'open') {
        throw new Error(`slot ${group} of the limiter has not answered and is left alone for a moment`)
      }
      try {
        const answer = take(parts.map(part => part.entries))
        const { answers, atUs } = await (deadlineMs === undefined
          ? answer
          : withinDeadline(deadlineMs, answer, `slot ${group} of the limiter`))
        breaker.succeeded()
        for (const [i, part] of parts.entries()) {
          part.answer = answers[i]!
          part.atUs = atUs
        }
      } catch (error) {
        breaker.failed()
        throw error
      }
    }))
    const isAllowed = partsOf.map(parts => parts.every(part => part.answer?.allowed === true))
    // A refund whose outcome is unknown is not repeated: its units expire with the window.
    const refunds = Promise.allSettled(
      partsOf
        .flatMap((parts, i) => (isAllowed[i] === true ? [] : parts.filter(part => part.answer?.allowed === true)))
        .map(refund)
    )
    const failed = outcomes.find(outcome => outcome.status === 'rejected')
    // If a slot has missed its deadline, the deadline of the whole call is near: do not wait for refunds.
    if (failed === undefined) await refunds
    return requests.map((entries, i) => {
      const parts = partsOf[i]!
      if (parts.some(part => part.answer === null)) return toError(failed!.reason)
      const allowed = isAllowed[i]!
      const statesOf = new Map(parts.flatMap(part => {
        const states = part.answer!.states.values()
        return part.entries.map(
          entry =>
            [entry, chargesOf(entry).map(charge => refunded(part, charge, states.next().value!, allowed))] as const
        )
      }))
      const clockOf = new Map(parts.flatMap(part => part.entries.map(entry => [entry, part.atUs] as const)))
      return {
        allowed,
        degraded: false,
        states: entries.flatMap(entry => statesOf.get(entry)!),
        takenAtUs: entries.flatMap(entry => chargesOf(entry).map(() => clockOf.get(entry)!))
      }
    })
  }

  async function refund ({ entries, atUs }: Pick<Part, 'entries' | 'atUs'>): Promise<void> {
    const windows = entries.flatMap(({ charge: { cost, windowMs }, window: { isList } }) => {
      return [cost, isList ? 1 : 0, windowMs * 1000]
    })
    await runRefund(redis, entries.map(({ window }) => window.key), [atUs, ...windows])
  }

  return {
    async take (charges) {
      const [answer] = await takeAll([charges])
      if (answer instanceof Error) throw answer
      return answer!
    },
    takeAll,
    async refund (charges, takenAtUs) {
      const stampOf = (charge: Charge): number =>
        typeof takenAtUs === 'number' ? takenAtUs : takenAtUs[charges.indexOf(charge)]!
      const parts = new Map<number, { atUs: number, entries: Entry[] }>()
      for (const entry of entriesOf(charges)) {
        const group = isCluster ? entry.window.group : 0
        const part = parts.get(group) ?? { atUs: stampOf(entry.charge), entries: [] }
        part.entries.push(entry)
        parts.set(group, part)
      }
      await Promise.all([...parts.values()].map(refund))
    },
    lastKnown (charge) {
      const window = windows.known(charge)
      if (window === undefined || window.heardAtMs === 0) return null
      return { used: isBurst(charge) ? window.usedInBurst : window.used, atMs: window.heardAtMs }
    }
  }
}

function toError (reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason))
}

function chargesOf ({ charge, burst }: Entry): readonly Charge[] {
  return burst === null ? [charge] : [charge, burst]
}

/** The state of a window after its admission was refunded. The window did not refuse, so it has no retry time. */
function refunded ({ answer }: Part, { cost, limit }: Charge, state: ChargeState, allowed: boolean): ChargeState {
  if (allowed || !answer!.allowed) return state
  return { remaining: Math.min(limit, state.remaining + cost), resetUs: state.resetUs, retryUs: 0 }
}

interface Windows {
  of (charge: Charge): StoredWindow
  /** The cached window; undefined when it is not cached. */
  known (charge: Charge): StoredWindow | undefined
  /** Clears a full cache. Must not run within a call: a window with two objects there would count as two windows. */
  forgetSome (): void
}

/** Caches the windows of charges, because hashing their names is the most expensive part of a decision. */
function createWindows (prefix: string, isCluster: boolean): Windows {
  const packed = new Map<string, Map<string, StoredWindow>>()
  const lists = new Map<string, Map<string, StoredWindow>>()
  let size = 0

  return {
    of (charge) {
      const { subject } = charge
      const rule = charge.windowOf ?? charge.rule
      const isList = hasList(charge)
      const remembered = isList ? lists : packed
      let windows = remembered.get(rule)
      if (windows === undefined) remembered.set(rule, windows = new Map())
      const known = windows.get(subject)
      if (known !== undefined) return known
      // A long subject is hashed each time instead of being kept in memory.
      const isKept = subject.length <= 256
      const { key, group } = windowName(prefix, isCluster, rule, subject, isList)
      // List every member in one literal: an object built by spreading is slower to write to.
      const window: StoredWindow =
        { key, group, isList, isKept, index: 0, call: 0, used: 0, usedInBurst: 0, heardAtMs: 0 }
      if (isKept) {
        windows.set(subject, window)
        size++
      }
      return window
    },
    known: charge => (hasList(charge) ? lists : packed).get(charge.windowOf ?? charge.rule)?.get(charge.subject),
    forgetSome () {
      if (size < MAX_REMEMBERED) return
      packed.clear()
      lists.clear()
      size = 0
    }
  }
}

function hasList ({ capacity, limit }: Charge): boolean {
  return (capacity ?? limit) > PACKED_LIMIT
}

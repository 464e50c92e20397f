import { performance } from 'node:perf_hooks'
import { redisScript, withinDeadline, type ScriptClient } from '@marty/redis'
import { createBreaker } from '../store/circuit-breaker.js'
import { DEFAULT_PREFIX, GROUPS, logName } from './key.js'
import { packRequests, readAnswers, type Entry, type Log, type Reply } from './codec.js'
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
 * Keeps the logs in Redis: exact across all processes that share it. Rejects when Redis
 * does; see `createGuardedStore`.
 */
export function createRedisStore (options: RedisStoreOptions): LimitStore & BatchStore {
  const { redis, prefix = DEFAULT_PREFIX, deadlineMs } = options
  const isCluster = redis.isCluster === true
  const logs = createLogs(prefix, isCluster)
  const breakers = Array.from({ length: isCluster ? GROUPS : 0 }, createBreaker)

  async function takeAll (requests: ReadonlyArray<readonly Charge[]>): Promise<Array<StoreAnswer | Error>> {
    logs.forgetSome()
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
          (burst.log !== charge.rule || burst.subject !== charge.subject || burst.cost !== charge.cost))
      ) {
        throw new TypeError(
          `The charge of a burst does not follow that of its rule: ${charges.map(({ rule }) => rule).join(', ')}`
        )
      }
      entries.push({ log: logs.of(charge), charge, burst })
      if (burst !== null) i++
    }
    return entries
  }

  /** Decides requests whose logs are all in one slot, with one call. */
  async function take (requests: ReadonlyArray<readonly Entry[]>): Promise<Reply> {
    const { keys, rules, charges } = packRequests(requests)
    const reply = readAnswers(await runTake(redis, keys, [rules, charges]), requests)
    const heardAtMs = performance.now()
    for (let i = 0; i < requests.length; i++) {
      const { states } = reply.answers[i]!
      let s = 0
      for (const { log, charge, burst } of requests[i]!) {
        log.used = charge.limit - states[s++]!.remaining
        if (burst !== null) log.usedInBurst = burst.limit - states[s++]!.remaining
        log.heardAtMs = heardAtMs
      }
    }
    return reply
  }

  /**
   * In a cluster, the logs of one request may be in several slots, which no script can decide together. All slots are
   * called in parallel, and those that admitted what another slot refused must refund it. Until then they count too
   * many units, so other requests may be refused a moment early, but none is admitted above a limit. A slot without a
   * master affects only the requests that need it, because each slot has its own circuit breaker.
   */
  async function takeInGroups (requests: ReadonlyArray<readonly Entry[]>): Promise<Array<StoreAnswer | Error>> {
    const groups = new Map<number, Part[]>()
    const partsOf = requests.map(entries => {
      const parts = new Map<number, Entry[]>()
      for (const entry of entries) {
        const part = parts.get(entry.log.group)
        if (part === undefined) parts.set(entry.log.group, [entry])
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
    const logs = entries.flatMap(({ charge, log }) => [charge.cost, log.isList ? 1 : 0, charge.windowMs * 1000])
    await runRefund(redis, entries.map(({ log }) => log.key), [atUs, ...logs])
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
        const group = isCluster ? entry.log.group : 0
        const part = parts.get(group) ?? { atUs: stampOf(entry.charge), entries: [] }
        part.entries.push(entry)
        parts.set(group, part)
      }
      await Promise.all([...parts.values()].map(refund))
    },
    lastKnown (charge) {
      const log = logs.known(charge)
      if (log === undefined || log.heardAtMs === 0) return null
      return { used: isBurst(charge) ? log.usedInBurst : log.used, atMs: log.heardAtMs }
    }
  }
}

function toError (reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason))
}

function chargesOf ({ charge, burst }: Entry): readonly Charge[] {
  return burst === null ? [charge] : [charge, burst]
}

/** The state of a log after its admission was refunded. The log did not refuse, so it has no retry time. */
function refunded ({ answer }: Part, { cost, limit }: Charge, state: ChargeState, allowed: boolean): ChargeState {
  if (allowed || !answer!.allowed) return state
  return { remaining: Math.min(limit, state.remaining + cost), resetUs: state.resetUs, retryUs: 0 }
}

interface Logs {
  of (charge: Charge): Log
  /** The cached log; undefined when it is not cached. */
  known (charge: Charge): Log | undefined
  /** Clears a full cache. Must not run within a call: a log with two objects there would count as two logs. */
  forgetSome (): void
}

/** Caches the logs of charges, because hashing their names is the most expensive part of a decision. */
function createLogs (prefix: string, isCluster: boolean): Logs {
  const [packed, lists] = [new Map<string, Map<string, Log>>(), new Map<string, Map<string, Log>>()]
  let size = 0

  return {
    of (charge) {
      const { subject } = charge
      const rule = charge.log ?? charge.rule
      const isList = hasList(charge)
      const remembered = isList ? lists : packed
      let logs = remembered.get(rule)
      if (logs === undefined) remembered.set(rule, logs = new Map())
      const known = logs.get(subject)
      if (known !== undefined) return known
      // A long subject is hashed each time instead of being kept in memory.
      const isKept = subject.length <= 256
      const { key, group } = logName(prefix, isCluster, rule, subject, isList)
      // List every member in one literal: an object built by spreading is slower to write to.
      const log: Log = { key, group, isList, isKept, index: 0, call: 0, used: 0, usedInBurst: 0, heardAtMs: 0 }
      if (isKept) {
        logs.set(subject, log)
        size++
      }
      return log
    },
    known: charge => (hasList(charge) ? lists : packed).get(charge.log ?? charge.rule)?.get(charge.subject),
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

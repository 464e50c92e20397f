import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { LeaseOptions, StoreFailureMode } from '@marty/rate-limit'
import type { RedisClusterOptions, RedisSingleOptions } from '@marty/redis'
import { until } from '@marty/testing'
import type { Decision } from './window-checker.js'

/** How one process comes at the limiter. */
export interface Attack {
  readonly rules: ReadonlyArray<{
    readonly rule: string
    readonly limit: number
    readonly windowMs: number
    /** The rule before this one, whose burst it is. */
    readonly windowOf?: string
    /** All subjects share one budget. */
    readonly shared?: boolean
    /** Spends from leases; its window is a list, whatever its limit. */
    readonly lease?: LeaseOptions
  }>
  /** How many subjects there are to choose from: one is a hot key. */
  readonly subjects: number
  /** Costs to choose from. */
  readonly costs: readonly number[]
  /** Requests at one moment. */
  readonly burst: number
  /** How many do so at once in each process. */
  readonly clients: number
  /** Wait after an admission. Milliseconds. @default 0 */
  readonly pauseMs?: number
}

export interface Setup {
  readonly redis: RedisSingleOptions | RedisClusterOptions
  readonly deadlineMs: number
  /** Every process keeps its event loop busy for so long, again and again. */
  readonly busy?: { readonly forMs: number; readonly everyMs: number }
}

export type Order =
  | { readonly do: 'attack'; readonly attacks: readonly Attack[]; readonly onFailure: StoreFailureMode }
  | { readonly do: 'answer' | 'stop' }

export interface Report {
  /** Those that admitted. */
  decisions: Decision[]
  asked: number
  /** Admissions by Redis, or from its leases. */
  admitted: number
  /** Requests decided without Redis. */
  degraded: number
  /** Requests answered with 503. */
  unavailable: number
  /** Units that were spent from leases. */
  leased: number
  /** Scripts sent to Redis. */
  sent: number
  /**
   * When a process decided or refused a request although Redis had decided every call in time, then and a second
   * before. Microseconds.
   */
  withoutCause: number[]
  /** How many processes there are, as the one knows that knows of the fewest. */
  instances: number
  /**
   * When the first request was asked that Redis did not decide, and when the last one was answered; null when it
   * decided all. Microseconds.
   */
  outage: readonly [from: number, to: number] | null
  /** Since when Redis has decided every request; 0 when it did not decide the last one. Microseconds. */
  healthySince: number
  slowestMs: number
}

export interface Adversaries {
  attack(attacks: readonly Attack[], onFailure: StoreFailureMode): void
  /** Returns when everything that had been asked was answered; rejects after a minute. */
  answered(): Promise<Report>
  /** Returns when every process has been served by Redis alone for so long. */
  healthyFor(ms: number): Promise<void>
  /** Kills one of the processes. */
  kill(): Promise<void>
  /** Stops one of the processes for so long, at whatever it is doing. */
  freeze(ms: number): Promise<void>
  /** Ends the attack and gathers what was decided. */
  stop(): Promise<Report>
}

export const PROCESSES = 4

interface Teardown {
  teardown(handler: () => unknown): void
}

/** Processes of their own that share one Redis. */
export async function startAdversaries (t: Teardown, setup: Setup): Promise<Adversaries> {
  const worker = fileURLToPath(new URL('./fixtures/adversary.js', import.meta.url))
  const children = Array.from({ length: PROCESSES }, () => {
    const child = fork(worker, [JSON.stringify(setup)], { serialization: 'advanced' })
    t.teardown(() => child.kill('SIGKILL'))
    return child
  })
  await Promise.all(children.map(async child => await answerOf(child)))

  const tell = async (order: Order): Promise<Report> => {
    const reports = (await Promise.all(
      children.map(async child => {
        child.send(order)
        return await answerOf(child)
      })
    )) as Report[]
    return {
      decisions: reports.flatMap(report => report.decisions),
      asked: sum(reports.map(report => report.asked)),
      admitted: sum(reports.map(report => report.admitted)),
      withoutCause: reports.flatMap(report => report.withoutCause),
      instances: Math.min(...reports.map(report => report.instances)),
      degraded: sum(reports.map(report => report.degraded)),
      unavailable: sum(reports.map(report => report.unavailable)),
      leased: sum(reports.map(report => report.leased)),
      sent: sum(reports.map(report => report.sent)),
      outage: reports
        .map(report => report.outage)
        .reduce((a, b) => (a === null || b === null ? (a ?? b) : [Math.min(a[0], b[0]), Math.max(a[1], b[1])])),
      healthySince: reports.some(report => report.healthySince === 0)
        ? 0
        : Math.max(...reports.map(report => report.healthySince)),
      slowestMs: Math.max(...reports.map(report => report.slowestMs))
    }
  }
  return {
    attack (attacks, onFailure) {
      for (const child of children) child.send({ do: 'attack', attacks, onFailure } satisfies Order)
    },
    answered: async () => await tell({ do: 'answer' }),
    async healthyFor (ms) {
      await until(async () => {
        const { healthySince } = await tell({ do: 'answer' })
        return healthySince > 0 && (performance.timeOrigin + performance.now()) * 1000 - healthySince > ms * 1000
      }, 'every process to be served by Redis again')
    },
    async kill () {
      const child = children.pop()!
      child.kill('SIGKILL')
      await once(child, 'exit')
    },
    async freeze (ms) {
      const [child] = children
      child!.kill('SIGSTOP')
      await new Promise(resolve => setTimeout(resolve, ms))
      child!.kill('SIGCONT')
    },
    stop: async () => await tell({ do: 'stop' })
  }
}

async function answerOf (child: ChildProcess): Promise<unknown> {
  const given = new AbortController()
  try {
    return await Promise.race([
      once(child, 'message', { signal: given.signal }).then(([message]) => message as unknown),
      once(child, 'exit', { signal: given.signal }).then(([code]) => {
        throw new Error(`an adversary ended with code ${code}`)
      }),
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          reject(new Error('an adversary did not answer within a minute'))
        }, 60_000)
        given.signal.addEventListener('abort', () => {
          clearTimeout(timer)
        })
      })
    ])
  } finally {
    given.abort()
  }
}

function sum (numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

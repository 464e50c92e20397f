import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { StoreFailureMode } from '@marty/rate-limit'
import type { RedisClusterOptions, RedisSingleOptions } from '@marty/redis'
import { until } from '../../redis/dist-test/redis-server.js'
import { worstOfRules, type Decision, type Worst } from './window-checker.js'

/** How one process comes at the limiter. */
export interface Attack {
  readonly rules: ReadonlyArray<{
    readonly rule: string
    readonly limit: number
    readonly windowMs: number
    /** All subjects share one budget. */
    readonly shared?: boolean
  }>
  /** How many subjects there are to choose from: one is a hot key. */
  readonly subjects: number
  /** Costs to choose from. */
  readonly costs: readonly number[]
  /** Requests at one moment. */
  readonly burst: number
  /** How many do so at once in each process. */
  readonly clients: number
}

export interface Setup {
  readonly redis: RedisSingleOptions | RedisClusterOptions
  readonly deadlineMs: number
  readonly onFailure: StoreFailureMode
  readonly instances: number
}

export type Order = { readonly do: 'attack', readonly attacks: readonly Attack[] } | { readonly do: 'answer' | 'stop' }

export interface Report {
  /** Those that admitted. */
  decisions: Array<Decision & { readonly degraded: boolean }>
  asked: number
  /** Requests decided without Redis. */
  degraded: number
  /** Requests answered with 503. */
  unavailable: number
  /** Scripts sent to Redis. */
  sent: number
  /** Since when no request was decided without Redis; 0 when the last one was. Microseconds. */
  healthySince: number
  slowestMs: number
}

export interface Adversaries {
  attack (attacks: readonly Attack[]): void
  /** Returns when everything that had been asked was answered; rejects after a minute. */
  answered (): Promise<Report>
  /** Returns when every process has been served by Redis alone for so long. */
  healthyFor (ms: number): Promise<void>
  /** Ends the attack and gathers what was decided. */
  stop (): Promise<Report>
}

export const PROCESSES = 4

interface Teardown { teardown (handler: () => unknown): void }

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
    const reports = await Promise.all(children.map(async child => {
      child.send(order)
      return await answerOf(child)
    })) as Report[]
    return {
      decisions: reports.flatMap(report => report.decisions),
      asked: sum(reports.map(report => report.asked)),
      degraded: sum(reports.map(report => report.degraded)),
      unavailable: sum(reports.map(report => report.unavailable)),
      sent: sum(reports.map(report => report.sent)),
      healthySince: reports.some(report => report.healthySince === 0) ? 0 : Math.max(...reports.map(report => report.healthySince)),
      slowestMs: Math.max(...reports.map(report => report.slowestMs))
    }
  }
  return {
    attack (attacks) { for (const child of children) child.send({ do: 'attack', attacks } satisfies Order) },
    answered: async () => await tell({ do: 'answer' }),
    async healthyFor (ms) {
      await until(async () => {
        const { healthySince } = await tell({ do: 'answer' })
        return healthySince > 0 && (performance.timeOrigin + performance.now()) * 1000 - healthySince > ms * 1000
      }, 'every process to be served by Redis again')
    },
    stop: async () => await tell({ do: 'stop' })
  }
}

/** The fullest window of any rule. */
export function worstOf (decisions: Iterable<Decision>): Worst & { readonly rule: string } {
  const [worst] = [...worstOfRules(decisions)].sort(([, a], [, b]) => b.ratio - a.ratio)
  if (worst === undefined) throw new Error('nothing was admitted')
  return { rule: worst[0], ...worst[1] }
}

async function answerOf (child: ChildProcess): Promise<unknown> {
  const given = new AbortController()
  try {
    return await Promise.race([
      once(child, 'message', { signal: given.signal }).then(([message]) => message as unknown),
      once(child, 'exit', { signal: given.signal }).then(([code]) => { throw new Error(`an adversary ended with code ${code}`) }),
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => { reject(new Error('an adversary did not answer within a minute')) }, 60_000)
        given.signal.addEventListener('abort', () => { clearTimeout(timer) })
      })
    ])
  } finally {
    given.abort()
  }
}

function sum (numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

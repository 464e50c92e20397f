import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { measure, ratio, type Case, type Measured, type Plan } from './harness.js'
import { startLoadProcess, type LoadProcess } from './load-process.js'
import { startRedisProcess } from './redis-process.js'
import type { Started, Usage } from './stack-server-process.js'
import type { ServerOptions } from './stack-servers.js'
import { median, percentile } from './statistics.js'

/** What a metric should reach. */
const GOALS: Readonly<Record<string, string>> = {
  stack_vs_bare: '>= 0.75',
  refused_vs_bare: '>= 0.75',
  vs_handwired_casbin: '>= 13',
  vs_handwired_nopolicy: '>= 1.8',
  stack_redis_vs_bare: '>= 0.60',
  start_cpu_vs_handwired: '<= 1.6',
  rss_vs_handwired: '<= 1.3',
  files_loaded: '<= 520',
  added_p99_64conn_ms: '<= 1',
  allocated_kib_per_request: '<= 12'
}
const CONNECTIONS = 64
const WARM_UP_REQUESTS = 10_000
const STARTS = 5
/** The heap must hold what so many requests allocate without a collection. */
const ALLOCATION_REQUESTS = 10_000
const NO_COLLECTION = ['--expose-gc', '--max-semi-space-size=512', '--min-semi-space-size=512']
const VARIANTS = ['bare', 'stack', 'stack_denied', 'stack_redis', 'handwired', 'handwired_casbin'] as const
type Variant = typeof VARIANTS[number]

/** The whole stack, and the same service wired by hand from the usual plugins, each in a process of its own. */
export async function stackBench (plan: Plan, progress: (done: number, of: number) => void): Promise<Measured> {
  const folder = await mkdtemp(join(tmpdir(), 'marty-bench-stack-'))
  const redis = await startRedisProcess()
  const client = startLoadProcess()
  const running: ServerProcess[] = []
  const start = async (variant: Variant, settings: Partial<StartSettings> = {}): Promise<ServerProcess> => {
    const options = { folder, redisPort: variant === 'stack_redis' ? redis.port : null }
    const one = await ServerProcess.start(variant, options, settings)
    running.push(one)
    return one
  }
  try {
    const starts = await measureStarts(start)
    const allocated = await measureAllocations(start, client)
    const cases: RequestCase[] = []
    for (const variant of VARIANTS) cases.push(new RequestCase(variant, await start(variant), client))
    for (const one of [...cases, ...cases]) await one.run(WARM_UP_REQUESTS)
    for (const one of cases) one.clear()
    const samples = await measure(cases, plan, progress)
    const [bare, stack] = cases as [RequestCase, RequestCase]
    const over = (of: (one: RequestCase) => readonly number[]): number =>
      median(of(stack).map((value, round) => value - of(bare)[round]!))
    return {
      metrics: {
        stack_vs_bare: ratio(samples, 'bare', 'stack'),
        refused_vs_bare: ratio(samples, 'bare', 'stack_denied'),
        vs_handwired_casbin: ratio(samples, 'handwired_casbin', 'stack'),
        vs_handwired_nopolicy: ratio(samples, 'handwired', 'stack'),
        stack_redis_vs_bare: ratio(samples, 'bare', 'stack_redis'),
        start_cpu_vs_handwired: median(starts.stack.cpuMs) / median(starts.handwired.cpuMs),
        rss_vs_handwired: median(starts.stack.rssMb) / median(starts.handwired.rssMb),
        files_loaded: starts.stack.files,
        added_p99_64conn_ms: over(one => one.p99Ms),
        allocated_kib_per_request: allocated.stack,
        added_cpu_us: over(one => one.cpuUs)
      },
      goals: GOALS,
      notes: [
        `HTTP over loopback, ${CONNECTIONS} keep-alive connections from another process, a process for each service, ` +
          'one token all the time',
        'stack: @marty/security with all its parts, a policy of 100 rules, a limit in memory, an audit file; ' +
          'stack_redis: the limit in Redis; refused: the same with a permission that the policy denies',
        'handwired: @fastify/jwt with its cache, rate-limit in memory, helmet and cors; with casbin: enforce() on the ' +
          'same rules',
        `CPU of one request: ${cases.map(one => `${one.name} ${median(one.cpuUs).toFixed(1)} us`).join(', ')}`,
        `start: ${Object.entries(starts).map(([name, { cpuMs, rssMb, files }]) =>
          `${name} ${median(cpuMs).toFixed(0)} ms of CPU, ${median(rssMb).toFixed(0)} MB, ${files} files`).join('; ')}`,
        `allocated in a request: bare ${allocated.bare.toFixed(1)} KiB, stack ${allocated.stack.toFixed(1)} KiB`
      ],
      samples: {
        ...samples,
        ...Object.fromEntries(cases.map(one => [`${one.name}_cpuUs`, one.cpuUs])),
        ...Object.fromEntries(Object.entries(starts).map(([name, { cpuMs }]) => [`${name}_start_cpuMs`, cpuMs]))
      }
    }
  } finally {
    client.close()
    for (const one of running) one.stop()
    await redis.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

type Start = (variant: Variant, settings?: Partial<StartSettings>) => Promise<ServerProcess>

interface StartSettings {
  readonly execArgv: readonly string[]
  readonly countsFiles: boolean
}

/** A service in a process of its own. */
class ServerProcess {
  readonly started: Started
  readonly #child: ChildProcess

  private constructor (child: ChildProcess, started: Started) {
    this.#child = child
    this.started = started
  }

  static async start (
    variant: Variant,
    options: ServerOptions,
    { execArgv = [], countsFiles = false }: Partial<StartSettings>
  ): Promise<ServerProcess> {
    const argv = [variant, JSON.stringify(options), countsFiles ? 'count' : '']
    const child = fork(new URL('stack-server-process.js', import.meta.url), argv, { execArgv: [...execArgv] })
    const ended = once(child, 'exit').then(() => { throw new Error(`the service "${variant}" ended before it was ready`) })
    const [started] = await Promise.race([once(child, 'message'), ended]) as [Started]
    ended.catch(() => {})
    return new ServerProcess(child, started)
  }

  async usage (task: 'usage' | 'collect' = 'usage'): Promise<Usage> {
    this.#child.send(task)
    return (await once(this.#child, 'message'))[0] as Usage
  }

  stop (): void {
    if (this.#child.connected) this.#child.disconnect()
  }
}

/** Requests of one service, and what each costs it. */
class RequestCase implements Case {
  readonly cpuUs: number[] = []
  readonly p99Ms: number[] = []
  readonly name: Variant
  readonly #server: ServerProcess
  readonly #client: LoadProcess

  constructor (name: Variant, server: ServerProcess, client: LoadProcess) {
    this.name = name
    this.#server = server
    this.#client = client
  }

  async run (requests: number): Promise<void> {
    const { port, token } = this.#server.started
    const before = await this.#server.usage()
    const { statuses, latenciesMs } = await this.#client.run({
      port,
      credential: token === null ? { kind: 'none' } : { kind: 'same', token },
      connections: CONNECTIONS,
      requests,
      timed: true
    })
    const status = this.name === 'stack_denied' ? 403 : 200
    if (statuses[status] !== requests) throw new Error(`${this.name} answered ${JSON.stringify(statuses)}`)
    this.cpuUs.push(((await this.#server.usage()).cpuUs - before.cpuUs) / requests)
    this.p99Ms.push(percentile(latenciesMs, 0.99))
  }

  clear (): void {
    this.cpuUs.length = 0
    this.p99Ms.length = 0
  }
}

interface Starts {
  readonly cpuMs: number[]
  readonly rssMb: number[]
  files: number
}

async function measureStarts (start: Start): Promise<Record<'bare' | 'stack' | 'handwired', Starts>> {
  const variants = ['bare', 'stack', 'handwired'] as const
  const measured = {
    bare: { cpuMs: [], rssMb: [], files: 0 } as Starts,
    stack: { cpuMs: [], rssMb: [], files: 0 } as Starts,
    handwired: { cpuMs: [], rssMb: [], files: 0 } as Starts
  }
  for (let round = 0; round < STARTS; round++) {
    for (const variant of variants) {
      const server = await start(variant)
      measured[variant].cpuMs.push(server.started.cpuMs)
      measured[variant].rssMb.push(server.started.rssMb)
      server.stop()
    }
  }
  for (const variant of variants) {
    const server = await start(variant, { countsFiles: true })
    measured[variant].files = server.started.files!
    server.stop()
  }
  return measured
}

/** KiB that one request leaves on the heap, in a process whose heap is large enough not to be collected meanwhile. */
async function measureAllocations (start: Start, client: LoadProcess): Promise<Record<'bare' | 'stack', number>> {
  const of = async (variant: 'bare' | 'stack'): Promise<number> => {
    const server = await start(variant, { execArgv: NO_COLLECTION })
    const requests = new RequestCase(variant, server, client)
    await requests.run(ALLOCATION_REQUESTS)
    const before = await server.usage('collect')
    await requests.run(ALLOCATION_REQUESTS)
    const after = await server.usage()
    server.stop()
    return (after.heapBytes - before.heapBytes) / ALLOCATION_REQUESTS / 1024
  }
  return { bare: await of('bare'), stack: await of('stack') }
}

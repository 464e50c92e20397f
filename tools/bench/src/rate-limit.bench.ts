import fastifyRateLimit from '@fastify/rate-limit'
import { ANONYMOUS, useGuard, type Authenticator, type Principal } from '@marty/core'
import { createRedisStore, rateLimit, type LimitRule } from '@marty/rate-limit'
import { openRedis, type RedisConnection } from '@marty/redis'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import type { AddressInfo } from 'node:net'
import { measure, ratio, type Case, type Measured, type Plan, type Samples } from './harness.js'
import type { LoadJob } from './http-load.js'
import { startLoadProcess, type LoadProcess } from './load-process.js'
import { startRedisProcess } from './redis-process.js'
import { median, percentile } from './statistics.js'

/** The targets of some metrics, printed beside them. */
const GOALS: Readonly<Record<string, string>> = {
  rule1_vs_bare: '>= 0.80',
  rule1_vs_frl: '>= 1.4',
  rule3_vs_bare: '>= 0.65',
  rule3_vs_frl: '>= 1.15',
  denied_vs_bare: '>= 0.85',
  added_p50_1conn_ms: '<= 0.06',
  added_p50_64conn_ms: '<= 0.15',
  added_p99_64conn_ms: '<= 1',
  node_us_1rule: '<= 3',
  node_us_3rules: '<= 6',
  redis_cpu_vs_frl: '<= 0.5',
  evalsha_per_request: '<= 0.10',
  memory_vs_zset: '<= 0.45',
  checks_per_s_1rule: '>= 250000',
  checks_per_s_3rules: '>= 120000',
  lease3_vs_bare: '>= 0.90',
  lease_checks_per_s: '>= 1000000'
}
const CONNECTIONS = 64
const USERS = 10_000
const WARM_UP_REQUESTS = 10_000
/** Number of concurrent checks, as if each came from a different WebSocket. */
const PENDING_CHECKS = 512

/** Three leased limits that all callers share. They are never used up. */
const HOT: Readonly<Record<string, LimitRule>> = Object.fromEntries(
  (['global', 'operation', 'address'] as const).map(by => [by, { limit: 1_000_000, windowMs: 1_000, by, lease: true }])
)

/** Measures exact limits over real sockets, compared with no limit and with @fastify/rate-limit on the same Redis. */
export async function rateLimitBench (plan: Plan, progress: (done: number, of: number) => void): Promise<Measured> {
  const redis = await startRedisProcess()
  const connection = openRedis({ url: `redis://127.0.0.1:${redis.port}`, commandTimeoutMs: 5_000 })
  // The client as the documentation of @fastify/rate-limit creates it, with ioredis's own batching.
  const plain = new Redis(redis.port, '127.0.0.1', { connectTimeout: 5_000, maxRetriesPerRequest: 1 })
  const pipelined = new Redis(redis.port, '127.0.0.1', { enableAutoPipelining: true })
  const client = startLoadProcess()
  const apps: FastifyInstance[] = []
  const app = async (made: Promise<FastifyInstance>): Promise<FastifyInstance> => {
    const one = await made
    apps.push(one)
    await one.listen({ host: '127.0.0.1', port: 0 })
    return one
  }
  try {
    await connection.ready(5_000)
    const scale = scaleOf(plan.limit)
    const [open, one, three, theirs, theirsPipelined, closed, leased] = [
      await app(bare()),
      await app(limited(connection, 'one', rulesOf(1, plan.limit, scale))),
      await app(limited(connection, 'three', rulesOf(3, plan.limit, scale))),
      await app(frl(plain, 'frl', plan.limit, scale)),
      await app(frl(pipelined, 'frl_pipelined', plan.limit, scale)),
      await app(limited(connection, 'denied', { only: { limit: 1, windowMs: 3_600_000, by: 'principal' } })),
      await app(limited(connection, 'leased', HOT))
    ]
    const makeRoom = createRoom([[one, ['first']], [three, ['first', 'second']]], scale, plan.limit, plain)
    const meter = createMeter(plain)
    const http = (
      name: string,
      server: FastifyInstance,
      { connections = CONNECTIONS, users = USERS, status = 200 } = {}
    ): Case =>
      httpCase(
        name,
        { port: portOf(server), credential: { kind: 'users', count: users }, connections, timed: true },
        status,
        client,
        meter,
        requests => makeRoom(server, requests)
      )
    const cases = [
      http('bare', open),
      http('rule1', one),
      http('rule3', three),
      http('frl', theirs),
      http('frl_pipelined', theirsPipelined),
      http('lease3', leased),
      http('denied', closed, { users: 100, status: 429 }),
      http('bare_1conn', open, { connections: 1 }),
      http('rule1_1conn', one, { connections: 1 })
    ]
    await client.run({
      port: portOf(closed),
      credential: { kind: 'users', count: 100 },
      connections: CONNECTIONS,
      requests: 100
    })
    for (const one of [...cases, ...cases]) {
      await one.prepare?.(WARM_UP_REQUESTS)
      await one.run(WARM_UP_REQUESTS)
    }
    meter.clear()
    const samples = await measure(cases, plan, progress)
    const [message, messages] = [
      await app(limited(connection, 'message', rulesOf(1, plan.limit, messageScale(plan.limit)))),
      await app(limited(connection, 'messages', rulesOf(3, plan.limit, messageScale(plan.limit))))
    ]
    const checks = await measure(
      [
        checksCase('checks1', message, ['first']),
        checksCase('checks3', messages, ['first', 'second']),
        checksCase('lease_checks', leased, Object.keys(HOT))
      ],
      plan
    )
    const { of } = meter
    const cpuOf = (name: string): string =>
      `${name} ${median(of(name).nodeUs).toFixed(1)} us Node, ${median(of(name).redisUs).toFixed(1)} us Redis`
    const added = (value: (name: string) => readonly number[], name: string, against: string): number =>
      median(value(name).map((one, round) => one - value(against)[round]!))
    return {
      metrics: {
        rule1_vs_bare: ratio(samples, 'bare', 'rule1'),
        rule1_vs_frl: ratio(samples, 'frl', 'rule1'),
        rule3_vs_bare: ratio(samples, 'bare', 'rule3'),
        rule3_vs_frl: ratio(samples, 'frl', 'rule3'),
        denied_vs_bare: ratio(samples, 'bare', 'denied'),
        added_p50_1conn_ms: added(name => of(name).p50Ms, 'rule1_1conn', 'bare_1conn'),
        added_p50_64conn_ms: added(name => of(name).p50Ms, 'rule1', 'bare'),
        added_p99_64conn_ms: added(name => of(name).p99Ms, 'rule1', 'bare'),
        node_us_1rule: added(name => of(name).nodeUs, 'rule1', 'bare'),
        node_us_3rules: added(name => of(name).nodeUs, 'rule3', 'bare'),
        redis_cpu_vs_frl: median(of('rule1').redisUs) / median(of('frl').redisUs),
        rule1_vs_frl_pipelined: ratio(samples, 'frl_pipelined', 'rule1'),
        rule3_vs_frl_pipelined: ratio(samples, 'frl_pipelined', 'rule3'),
        redis_cpu_vs_frl_pipelined: median(of('rule1').redisUs) / median(of('frl_pipelined').redisUs),
        evalsha_per_request: median(of('rule1').scripts),
        memory_vs_zset: await memoryVersusSortedSet(plain, connection),
        checks_per_s_1rule: 1e9 / median(checks['checks1']!),
        checks_per_s_3rules: 1e9 / median(checks['checks3']!),
        lease3_vs_bare: ratio(samples, 'bare', 'lease3'),
        lease_checks_per_s: 1e9 / median(checks['lease_checks']!)
      },
      goals: GOALS,
      notes: [
        `HTTP over loopback, ${CONNECTIONS} keep-alive connections from another process, one request at a time on ` +
          `each; ${USERS} users in turn, limit ${plan.limit}, ${scale.filled} units used beforehand`,
        "the server's thread was busy " +
          `${cases.map(({ name }) => `${name} ${Math.round(median(of(name).busy) * 100)} %`).join(', ')} of the ` +
          'time: below 90 % the client or Redis was the bottleneck, and the ratio says little',
        `CPU of one request: ${['bare', 'rule1', 'rule3', 'frl', 'frl_pipelined', 'denied', 'lease3'].map(cpuOf).join('; ')}`,
        'frl is @fastify/rate-limit with its Redis store over ioredis, set up as in its documentation; ' +
          'frl_pipelined is the same with enableAutoPipelining, its fastest setting',
        'three rules: a window of the user, a burst in it, and a window of the user at this operation; a burst ' +
          'reads the log of its rule',
        `checks: fastify.limiter.check() inside the process, ${PENDING_CHECKS} at a time`,
        'lease3, lease_checks: three rules that all callers share, with leases'
      ],
      samples: { ...samples, ...checks, ...meter.samples() }
    }
  } finally {
    client.close()
    await Promise.all(apps.map(one => one.close()))
    plain.disconnect()
    pipelined.disconnect()
    await connection.close()
    await redis.stop()
  }
}

/** A window that refuses no request, and how full its logs are. The cost of an exact log depends on its size. */
interface Scale {
  readonly windowMs: number
  readonly filled: number
}

function scaleOf (limit: number): Scale {
  return limit < 50
    ? { windowMs: 100, filled: 0 }
    : { windowMs: 3_600_000, filled: Math.min(500, Math.floor(limit / 2)) }
}

/** At 250,000 checks a second of 10,000 users, logs are about half full. */
function messageScale (limit: number): Scale {
  return { windowMs: limit * 20, filled: 0 }
}

/** Three typical limits: by user in a long and in a short window, and by user and operation. */
function rulesOf (count: 1 | 3, limit: number, { windowMs }: Scale): Readonly<Record<string, LimitRule>> {
  const first: LimitRule = { limit, windowMs, by: 'principal' }
  return count === 1
    ? { first }
    : {
        first: { ...first, burst: { limit, windowMs: windowMs / 2 } },
        second: { limit, windowMs, by: 'principal+operation' }
      }
}

async function bare (): Promise<FastifyInstance> {
  const app = Fastify()
  app.get('/', async () => 'ok')
  return app
}

const users = new Map<string, Principal>()

/** Trusts the header, because only limits are measured. @fastify/rate-limit gets its key from the same header. */
const byHeader: Authenticator = {
  method: 'jwt',
  find: ({ headers }) => headers['x-user'] as string | undefined ?? null,
  accepts: () => true,
  authenticate (id) {
    let user = users.get(id)
    if (user === undefined) {
      users.set(id, (user = Object.freeze({ ...ANONYMOUS, id, kind: 'user', authenticatedBy: 'jwt' })))
    }
    return user
  }
}

async function limited (
  { client }: RedisConnection,
  name: string,
  rules: Readonly<Record<string, LimitRule>>
): Promise<FastifyInstance> {
  const app = Fastify()
  useGuard(app).addAuthenticator(byHeader)
  await app.register(rateLimit, {
    rules,
    store: { redis: client, prefix: `bench:${name}`, deadlineMs: 5_000, onFailure: 'closed' }
  })
  app.get('/', { config: { security: { authenticate: true, limits: Object.keys(rules) } } }, async () => 'ok')
  return app
}

async function frl (redis: Redis, name: string, max: number, { windowMs }: Scale): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(fastifyRateLimit, {
    max: max + USERS,
    timeWindow: windowMs,
    redis,
    nameSpace: `bench:${name}:`,
    keyGenerator: request => request.headers['x-user'] as string
  })
  app.get('/', async () => 'ok')
  return app
}

function portOf (app: FastifyInstance): number {
  return (app.server.address() as AddressInfo).port
}

/** Uses up a part of each user's limits, so that the logs are as full as in production. */
async function fill ({ limiter }: FastifyInstance, rules: readonly string[], { filled }: Scale): Promise<void> {
  if (filled === 0) return
  for (let user = 0; user < USERS; user += CONNECTIONS) {
    await Promise.all(
      Array.from({ length: Math.min(CONNECTIONS, USERS - user) }, (_, i) =>
        limiter.check(callerOf(user + i), rules, filled)
      )
    )
  }
}

/**
 * Resets every log to its initial size before a slice in which a user would use up a limit. Users that are refused on
 * purpose stay refused, because the process remembers it.
 */
function createRoom (
  servers: ReadonlyArray<readonly [FastifyInstance, readonly string[]]>,
  scale: Scale,
  limit: number,
  redis: Redis
): (server: FastifyInstance, requests: number) => Promise<void> {
  const used = new Map(servers.map(([server]) => [server, Infinity]))
  return async (server, requests) => {
    const before = used.get(server)
    if (before === undefined) return
    // The users make requests in turn, beginning with the first.
    const turns = Math.ceil(requests / USERS)
    if (scale.filled > 0 && before + turns > limit - scale.filled) {
      await redis.flushdb()
      for (const [other, rules] of servers) {
        await fill(other, rules, scale)
        used.set(other, 0)
      }
    }
    used.set(server, used.get(server)! + turns)
  }
}

function callerOf (user: number): {
  readonly address: null
  readonly principal: Principal
  readonly operation: string
} {
  return {
    address: null,
    principal: byHeader.authenticate(`user-${user}`, { address: null, requestId: '' }) as Principal,
    operation: 'GET /'
  }
}

/** The cost of the requests of one case, one value per slice. */
interface Costs {
  /** CPU time of this process (all threads), in microseconds per request. */
  readonly nodeUs: number[]
  /** CPU time of Redis, in microseconds per request. */
  readonly redisUs: number[]
  /** Script calls per request. */
  readonly scripts: number[]
  readonly busy: number[]
  readonly p50Ms: number[]
  readonly p99Ms: number[]
}

interface Meter {
  of (name: string): Costs
  clear (): void
  samples (): Samples
  /** Runs `work`, which makes this number of requests, and records their cost. */
  measure (name: string, requests: number, work: () => Promise<readonly number[]>): Promise<void>
}

function createMeter (redis: Redis): Meter {
  const all = new Map<string, Costs>()
  const of = (name: string): Costs => {
    let costs = all.get(name)
    if (costs === undefined) {
      all.set(name, (costs = { nodeUs: [], redisUs: [], scripts: [], busy: [], p50Ms: [], p99Ms: [] }))
    }
    return costs
  }
  const inRedis = async (): Promise<{ readonly cpuUs: number, readonly scripts: number }> => {
    const [cpu, stats] = await Promise.all([redis.info('cpu'), redis.info('commandstats')])
    const number = (text: string, pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0)
    return {
      cpuUs: (number(cpu, /used_cpu_user:([\d.]+)/) + number(cpu, /used_cpu_sys:([\d.]+)/)) * 1e6,
      scripts: number(stats, /cmdstat_evalsha:calls=(\d+)/) + number(stats, /cmdstat_eval:calls=(\d+)/)
    }
  }
  return {
    of,
    clear: () => {
      all.clear()
    },
    samples: () =>
      Object.fromEntries(
        [...all].flatMap(([name, costs]) =>
          Object.entries(costs).map(([what, values]) => [`${name}_${what}`, values as number[]])
        )
      ),
    async measure (name, requests, work) {
      const redisBefore = await inRedis()
      const before = { cpu: process.cpuUsage(), busy: performance.eventLoopUtilization() }
      const latencies = await work()
      const { user, system } = process.cpuUsage(before.cpu)
      const { utilization } = performance.eventLoopUtilization(before.busy)
      const redisAfter = await inRedis()
      const costs = of(name)
      costs.nodeUs.push((user + system) / requests)
      costs.redisUs.push((redisAfter.cpuUs - redisBefore.cpuUs) / requests)
      costs.scripts.push((redisAfter.scripts - redisBefore.scripts) / requests)
      costs.busy.push(utilization)
      costs.p50Ms.push(percentile(latencies, 0.5))
      costs.p99Ms.push(percentile(latencies, 0.99))
    }
  }
}

function httpCase (
  name: string,
  load: Omit<LoadJob, 'requests'>,
  status: number,
  client: LoadProcess,
  meter: Meter,
  makeRoom: (requests: number) => Promise<void>
): Case {
  return {
    name,
    async prepare (requests) {
      await makeRoom(requests)
      await client.prepare({ ...load, requests })
    },
    run: requests =>
      meter.measure(name, requests, async () => {
        const { statuses, latenciesMs } = await client.run({ ...load, requests })
        if (statuses[status] !== requests) throw new Error(`${name} answered ${JSON.stringify(statuses)}`)
        return latenciesMs
      })
  }
}

/** Checks as messages of many WebSockets cause them: without HTTP, and many of them concurrently. */
function checksCase (name: string, { limiter }: FastifyInstance, rules: readonly string[]): Case {
  const callers = Array.from({ length: USERS }, (_, user) => callerOf(user))
  return {
    name,
    async run (iterations) {
      let next = 0
      await Promise.all(Array.from({ length: PENDING_CHECKS }, async () => {
        while (next < iterations) {
          const { allowed } = await limiter.check(callers[next++ % USERS]!, rules)
          if (!allowed) throw new Error(`${name} was denied`)
        }
      }))
    }
  }
}

/**
 * Memory of a full log of 100 units, compared with the sorted set that exact limiters usually use. Members of the set
 * need a suffix, because several units may have the same microsecond.
 */
async function memoryVersusSortedSet (redis: Redis, { client }: RedisConnection): Promise<number> {
  const store = createRedisStore({ redis: client, prefix: 'bench:memory' })
  for (let i = 0; i < 100; i++) {
    await store.take([{ rule: 'log', subject: 'user', limit: 100, windowMs: 3_600_000, cost: 1 }])
    const [seconds, microseconds] = await redis.time() as [number, number]
    const stamp = seconds * 1_000_000 + microseconds
    await redis.zadd('bench:memory:set', stamp, `${stamp}-${i}`)
  }
  const [log] = await redis.keys('{bench:memory}*')
  return (await redis.memory('USAGE', log!))! / (await redis.memory('USAGE', 'bench:memory:set'))!
}

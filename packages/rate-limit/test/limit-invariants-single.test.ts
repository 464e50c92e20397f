import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openRedis, type RedisClient } from '@marty/redis'
import { freePort, type RedisServer, startRedis } from '@marty/testing'
import { startAdversaries, type Attack } from './adversaries.js'
import {
  attackUntilTried,
  judge,
  namesOf,
  proveAll,
  scriptsRun,
  SECONDS,
  usedAgain,
  worstOf,
  type Fault
} from './limit-invariants.js'

t.setTimeout(400_000 + SECONDS * 4_000)

const HEALTHY: readonly Attack[] = [
  { rules: [{ rule: 'five', limit: 5, windowMs: 100 }], subjects: 1, costs: [1], burst: 3, clients: 2 },
  { rules: [{ rule: 'hundred', limit: 100, windowMs: 250 }], subjects: 1, costs: [1, 1, 7], burst: 12, clients: 2 },
  { rules: [{ rule: 'list', limit: 129, windowMs: 300 }], subjects: 1, costs: [1, 5], burst: 12, clients: 2 },
  { rules: [{ rule: 'thousand', limit: 1000, windowMs: 500 }], subjects: 1, costs: [1, 40], burst: 16, clients: 2 },
  {
    rules: [
      { rule: 'burst', limit: 6, windowMs: 40 },
      { rule: 'minute', limit: 20, windowMs: 200 },
      { rule: 'hour', limit: 150, windowMs: 1500 }
    ],
    subjects: 2,
    costs: [1, 2],
    burst: 4,
    clients: 2
  },
  {
    rules: [
      { rule: 'calls', limit: 30, windowMs: 300 },
      { rule: 'calls.burst', windowOf: 'calls', limit: 5, windowMs: 40 }
    ],
    subjects: 2,
    costs: [1, 2],
    burst: 6,
    clients: 2
  },
  {
    rules: [
      { rule: 'long', limit: 200, windowMs: 900 },
      { rule: 'long.burst', windowOf: 'long', limit: 20, windowMs: 60 }
    ],
    subjects: 1,
    costs: [1, 3],
    burst: 8,
    clients: 2
  },
  {
    rules: [{ rule: 'leased', limit: 400, windowMs: 300, lease: { share: 0.5 } }],
    subjects: 1,
    costs: [1, 3],
    burst: 12,
    clients: 2
  },
  {
    rules: [
      { rule: 'cold', limit: 5, windowMs: 150 },
      { rule: 'everybody', limit: 30, windowMs: 150, shared: true }
    ],
    subjects: 300,
    costs: [1, 3],
    burst: 8,
    clients: 2
  }
]

const folder = mkdtempSync(join(tmpdir(), 'marty-proof-'))
t.teardown(() => {
  rmSync(folder, { recursive: true, force: true })
})
const port = await freePort()
const start = async (): Promise<RedisServer> =>
  await startRedis(port, ['--dir', folder, '--appendonly', 'yes', '--appendfsync', 'everysec'])
let redis = await start()
t.teardown(() => redis.stop())
const admin = openRedis({ port, commandTimeoutMs: 5_000 })
t.teardown(() => admin.close())
await admin.ready(10_000)
const client: RedisClient = admin.client

t.test(
  'healthy, while its scripts are flushed again and again: never above a limit, and every limit tried',
  async t => {
    const adversaries = await startAdversaries(t, { redis: { port }, deadlineMs: 5_000 })
    const before = await scriptsRun(client)
    const report = await attackUntilTried(adversaries, HEALTHY, 0.75, namesOf(HEALTHY), async () => {
      const end = Date.now() + Math.max(4_000, SECONDS * 1_000)
      while (Date.now() < end) {
        await client.script('FLUSH')
        await new Promise(resolve => setTimeout(resolve, Math.random() * 200))
      }
    })
    judge(t, 'healthy', report, 1)
    t.same(report.outage, null, 'no request was decided without Redis')
    t.equal((await scriptsRun(client)) - before, report.sent, 'each call reached Redis once')
  }
)

t.test('outages', async t => {
  const adversaries = await startAdversaries(t, { redis: { port }, deadlineMs: 250 })
  const freeze = {
    name: 'frozen',
    strike: async () => redis.child.kill('SIGSTOP'),
    mend: async () => redis.child.kill('SIGCONT')
  }
  const pause = {
    name: 'paused',
    strike: async () => await client.call('CLIENT', 'PAUSE', '1500', 'ALL'),
    mend: async () => await client.ping()
  }
  const fill = {
    name: 'out of memory',
    strike: async () => await client.config('SET', 'maxmemory', '1'),
    mend: async () => await client.config('SET', 'maxmemory', '0')
  }
  const kill = {
    name: 'killed, append-only file',
    strike: async () => await redis.stop(),
    mend: async () => {
      redis = await start()
    }
  }
  const lose = {
    ...kill,
    name: 'killed, nothing kept',
    mend: async () => {
      rmSync(join(folder, 'appendonlydir'), { recursive: true })
      redis = await start()
    }
  }
  const faults: readonly Fault[] = [
    { ...freeze, mode: 'local', bound: 2 },
    { ...pause, mode: 'closed', bound: 1 },
    { ...fill, mode: 'closed', bound: 1 },
    { ...kill, mode: 'closed', bound: 1 },
    { ...lose, mode: 'local', bound: 3, loses: true },
    { ...freeze, mode: 'closed', bound: 1, isRare: true },
    { ...pause, mode: 'local', bound: 2, isRare: true },
    { ...fill, mode: 'local', bound: 2, isRare: true },
    { ...kill, mode: 'local', bound: 2, isRare: true },
    { ...lose, mode: 'closed', bound: 2, loses: true, isRare: true }
  ]
  await proveAll(t, adversaries, faults, async ({ name }, work) => {
    const before = await scriptsRun(client)
    const report = await work()
    t.ok(report.outage !== null, 'Redis was gone')
    const after = await scriptsRun(client)
    // A server that was started again counts from nothing.
    t.ok(after - (name.startsWith('killed') ? 0 : before) <= report.sent, 'nothing is sent twice')
  })
})

/** What leaves a processor some time for Redis. */
const LIGHT: readonly Attack[] = [
  { rules: [{ rule: 'light', limit: 20, windowMs: 200 }], subjects: 1, costs: [1], burst: 16, clients: 1, pauseMs: 5 },
  {
    rules: [{ rule: 'light-list', limit: 150, windowMs: 500 }],
    subjects: 1,
    costs: [1, 5],
    burst: 4,
    clients: 1,
    pauseMs: 5
  },
  {
    rules: [{ rule: 'light-many', limit: 8, windowMs: 400 }],
    subjects: 1e6,
    costs: [1],
    burst: 64,
    clients: 1,
    pauseMs: 20
  }
]

t.test(
  'every process is busy itself for 80 ms twice a second: nothing is refused without a cause, and nothing admitted twice',
  async t => {
    const adversaries = await startAdversaries(t, {
      redis: { port },
      deadlineMs: 50,
      busy: { forMs: 80, everyMs: 500 }
    })
    for (const mode of ['closed', 'local'] as const) {
      adversaries.attack(LIGHT, mode)
      const observer = observeRedis()
      await new Promise(resolve => setTimeout(resolve, Math.max(4_000, SECONDS * 1_000)))
      await usedAgain(adversaries)
      const report = await adversaries.stop()
      // What a process decides while Redis is slow by itself may come on top.
      judge(t, `busy, ${mode}`, report, report.degraded === 0 ? 1 : 2)
      const slow = await observer.stop()
      const unexplained = report.withoutCause.filter(
        at => !slow.some(([from, to]) => from <= at && at <= to + 1_500_000)
      )
      t.comment(
        `${report.unavailable + report.degraded} refused or decided without Redis, which was slow ${slow.length} times`
      )
      t.same(unexplained, [], 'none of them without a cause')
    }
  }
)

/** Whether others get answers from Redis meanwhile: it may have decided in time, and had no processor to say so. */
function observeRedis (): { stop(): Promise<ReadonlyArray<readonly [fromUs: number, toUs: number]>> } {
  const slow: Array<readonly [number, number]> = []
  const over = new AbortController()
  const watching = (async () => {
    while (!over.signal.aborted) {
      const from = Date.now()
      await client.ping()
      const to = Date.now()
      if (to - from > 15) slow.push([from * 1000, to * 1000])
      await new Promise(resolve => setTimeout(resolve, 2))
    }
  })()
  return {
    async stop () {
      over.abort()
      await watching
      return slow
    }
  }
}

const LONGEST_LEASE_US = 100_000

t.test(
  'windows that Redis evicts begin anew, so limits are lost; without eviction all is exact once leases are over',
  async t => {
    const adversaries = await startAdversaries(t, { redis: { port }, deadlineMs: 5_000 })
    adversaries.attack(HEALTHY, 'closed')
    await adversaries.healthyFor(500)
    const used = Number(/used_memory:(\d+)/.exec(await client.info('memory'))![1])
    await client.config('SET', 'maxmemory-policy', 'volatile-random')
    await client.config('SET', 'maxmemory', String(used))
    for (let i = 0; i < 200; i++) await client.set(`other:${i}`, 'x'.repeat(5_000), 'PX', 60_000).catch(() => {})
    await client.config('SET', 'maxmemory', '0')
    const [seconds, microseconds] = await client.time()
    const endedAt = Number(seconds) * 1e6 + Number(microseconds)
    await adversaries.healthyFor(1_000)
    await usedAgain(adversaries)
    const { decisions } = await adversaries.stop()
    t.ok(Number(/evicted_keys:(\d+)/.exec(await client.info('stats'))![1]) > 0)
    t.comment(`evicting: worst ${worstOf(decisions).ratio.toFixed(3)}`)
    // Units that were leased before may be spent although their window is gone: until the lease ends.
    const worst = worstOf(decisions.filter(({ before }) => before > endedAt + LONGEST_LEASE_US))
    t.ok(worst.ratio <= 1, JSON.stringify(worst))
  }
)

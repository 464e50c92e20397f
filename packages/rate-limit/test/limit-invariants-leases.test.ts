import t, { type Test } from 'tap'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'
import { startAdversaries, type Attack, type Report } from './adversaries.js'
import { attackUntilTried, judge, SECONDS } from './limit-invariants.js'

t.setTimeout(400_000 + SECONDS * 4_000)

const lease = { share: 0.1, ttlMs: 100 }
const greedy = { share: 0.5, ttlMs: 500 }

/** Many processes at few hot keys, with leases that are worth having, ones much too large, and rules that have none. */
const HOT: readonly Attack[] = [
  { rules: [{ rule: 'hot', limit: 20_000, windowMs: 400, lease }], subjects: 1, costs: [1], burst: 16, clients: 3 },
  {
    rules: [{ rule: 'greedy', limit: 400, windowMs: 300, lease: greedy }],
    subjects: 1,
    costs: [1, 1, 5],
    burst: 16,
    clients: 2
  },
  {
    rules: [{ rule: 'hundred', limit: 100, windowMs: 200, lease: greedy }],
    subjects: 1,
    costs: [1],
    burst: 12,
    clients: 2
  },
  {
    rules: [
      { rule: 'everybody', limit: 3_000, windowMs: 500, shared: true, lease },
      { rule: 'tenant', limit: 1_000, windowMs: 250, lease: greedy },
      { rule: 'own', limit: 40, windowMs: 100 }
    ],
    subjects: 3,
    costs: [1, 2],
    burst: 8,
    clients: 2
  }
]

const port = await freePort()
const redis = await startRedis(port)
t.teardown(() => redis.stop())
const admin = openRedis({ port, commandTimeoutMs: 5_000 })
t.teardown(() => admin.close())
await admin.ready(10_000)

t.test('leases in four processes, while scripts are flushed: never above a limit', async t => {
  const adversaries = await startAdversaries(t, { redis: { port }, deadlineMs: 5_000 })
  const report = await attackUntilTried(
    adversaries,
    HOT,
    0.8,
    ['greedy', 'hundred'],
    async () => {
      const end = Date.now() + Math.max(4_000, SECONDS * 1_000)
      while (Date.now() < end) {
        await admin.client.script('FLUSH')
        await new Promise(resolve => setTimeout(resolve, Math.random() * 200))
      }
    },
    1_001
  )
  judge(t, 'leases, healthy', report, 1)
  t.same(report.outage, null, 'no request was decided without Redis')
  judgeLeases(t, report)
})

t.test('a process that is stopped in the middle of a lease does not go on with it later', async t => {
  const adversaries = await startAdversaries(t, { redis: { port }, deadlineMs: 5_000 })
  const report = await attackUntilTried(
    adversaries,
    HOT,
    0.8,
    ['greedy', 'hundred'],
    async () => {
      const end = Date.now() + Math.max(4_000, SECONDS * 1_000)
      while (Date.now() < end) {
        await adversaries.freeze(Math.random() * 700)
        await new Promise(resolve => setTimeout(resolve, Math.random() * 150))
      }
    },
    1_001
  )
  judge(t, 'leases, a process stopped again and again', report, 1)
  judgeLeases(t, report)
})

t.test('what a killed process held comes back with the window', async t => {
  const adversaries = await startAdversaries(t, { redis: { port }, deadlineMs: 5_000 })
  adversaries.attack(HOT, 'closed')
  await adversaries.healthyFor(500)
  await adversaries.kill()
  await adversaries.kill()
  const [seconds, microseconds] = await admin.client.time()
  const killedAt = Number(seconds) * 1e6 + Number(microseconds)
  await adversaries.healthyFor(2_000)
  judge(t, 'leases, two of four processes killed', await adversaries.stop(), 1)
  await until(() => Date.now() * 1000 > killedAt + 800_000, 'a window and a lease to pass')
  const later = await attackUntilTried(adversaries, HOT, 0.8, ['greedy', 'hundred'], async () => {
    await adversaries.healthyFor(1_000)
  })
  judge(t, 'what they held is there again', later, 1)
})

function judgeLeases (t: Test, { decisions, leased }: Report): void {
  t.comment(`${leased} of ${decisions.reduce((sum, { cost }) => sum + cost, 0)} units were spent from leases`)
  t.ok(leased > 1_000, 'leases were used')
}

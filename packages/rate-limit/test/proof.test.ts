import t, { type Test } from 'tap'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openRedis, type RedisClient } from '@marty/redis'
import { freePort, startRedis, until, type RedisServer } from '../../redis/dist-test/redis-server.js'
import { PROCESSES, startAdversaries, worstOf, type Adversaries, type Attack, type Report, type Setup } from './adversaries.js'

/** Longer runs find more; see the guide on rate limiting. */
const SECONDS = Number(process.env['MARTY_LIMITER_PROOF_SECONDS'] ?? 0)

const HEALTHY: readonly Attack[] = [
  { rules: [{ rule: 'five', limit: 5, windowMs: 100 }], subjects: 1, costs: [1], burst: 3, clients: 2 },
  { rules: [{ rule: 'hundred', limit: 100, windowMs: 250 }], subjects: 1, costs: [1, 1, 7], burst: 12, clients: 2 },
  { rules: [{ rule: 'list', limit: 129, windowMs: 300 }], subjects: 1, costs: [1, 5], burst: 12, clients: 2 },
  { rules: [{ rule: 'thousand', limit: 1000, windowMs: 500 }], subjects: 1, costs: [1, 40], burst: 16, clients: 2 },
  {
    rules: [{ rule: 'burst', limit: 6, windowMs: 40 }, { rule: 'minute', limit: 20, windowMs: 200 }, { rule: 'hour', limit: 150, windowMs: 1500 }],
    subjects: 2, costs: [1, 2], burst: 4, clients: 2
  },
  { rules: [{ rule: 'cold', limit: 5, windowMs: 150 }, { rule: 'everybody', limit: 400, windowMs: 150, shared: true }], subjects: 300, costs: [1, 3], burst: 8, clients: 2 }
]

/** The longest window is half a second, so that an outage can be both shorter and longer. */
const WINDOW_MS = 500
const OUTAGE: readonly Attack[] = [
  { rules: [{ rule: 'eight', limit: 8, windowMs: WINDOW_MS }], subjects: 1, costs: [1], burst: 4, clients: 2 },
  { rules: [{ rule: 'hundred', limit: 100, windowMs: 200 }, { rule: 'list', limit: 200, windowMs: WINDOW_MS }], subjects: 2, costs: [1, 3], burst: 8, clients: 2 },
  { rules: [{ rule: 'cold', limit: 8, windowMs: WINDOW_MS }], subjects: 100, costs: [1], burst: 4, clients: 2 }
]

async function server (t: Test, args: readonly string[] = []): Promise<RedisServer> {
  const redis = await startRedis(await freePort(), args)
  t.teardown(() => redis.stop())
  return redis
}

/** What is true of every history, and what its fault allows on top. */
function judge (t: Test, name: string, { decisions, ...report }: Report, bound: number): void {
  const degraded = decisions.filter(decision => decision.degraded)
  const first = Math.min(...degraded.map(({ before }) => before))
  const last = Math.max(...degraded.map(({ after }) => after))
  const healthy = degraded.length === 0 ? [decisions] : [decisions.filter(({ after }) => after < first), decisions.filter(({ before }) => before > last)]
  const worst = worstOf(decisions)
  const exact = healthy.map(part => worstOf(part))
  t.comment(`${name}: ${report.asked} asked, ${report.degraded} without Redis, ${report.unavailable} refused with 503, slowest ${Math.round(report.slowestMs)} ms; ` +
    `worst ratio ${worst.ratio.toFixed(3)} (${worst.rule}), without the outage ${exact.map(({ ratio }) => ratio.toFixed(3)).join(', ')}`)
  for (const part of exact) t.ok(part.ratio <= 1, `exact before and after: ${JSON.stringify(part)}`)
  t.ok(worst.ratio <= bound, `at most ${bound} around the outage: ${JSON.stringify(worst)}`)
}

async function scripts (client: RedisClient): Promise<number> {
  const stats = String(await client.info('commandstats'))
  return [...stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].reduce((sum, [, calls]) => sum + Number(calls), 0)
}

t.test('healthy', async t => {
  const redis = await server(t)
  const admin = openRedis({ port: redis.port, commandTimeoutMs: 5_000 })
  t.teardown(() => admin.close())
  await admin.ready(10_000)
  const adversaries = await startAdversaries(t, { redis: { port: redis.port }, deadlineMs: 5_000, onFailure: 'closed', instances: PROCESSES })
  adversaries.attack(HEALTHY)
  const end = Date.now() + 4000
  for (let i = 0; Date.now() < end; i++) {
    await new Promise(resolve => setTimeout(resolve, 100))
    await admin.client.script('FLUSH')
  }
  const report = await adversaries.stop()
  judge(t, 'healthy', report, 1)
  t.equal(await scripts(admin.client), report.sent)
})

for (const mode of ['local', 'closed'] as const) t.test('frozen ' + mode, async t => {
  const redis = await server(t)
  const adversaries = await startAdversaries(t, { redis: { port: redis.port }, deadlineMs: 50, onFailure: mode, instances: PROCESSES })
  adversaries.attack(OUTAGE)
  await adversaries.healthyFor(WINDOW_MS)
  redis.child.kill('SIGSTOP')
  await adversaries.answered()
  await new Promise(resolve => setTimeout(resolve, 300))
  redis.child.kill('SIGCONT')
  await adversaries.healthyFor(WINDOW_MS * 1.5)
  judge(t, 'frozen', await adversaries.stop(), 2)
})

import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openRedis, type RedisClient } from '@marty/redis'
import { freePort, startRedis } from '../../redis/dist-test/redis-server.js'
import { startAdversaries, type Attack } from './adversaries.js'
import { judge, prove, scriptsRun, SECONDS, type Fault } from './proof.js'
import { worstOfRules } from './window-checker.js'

t.setTimeout(120_000 + SECONDS * 2_000)

const HEALTHY: readonly Attack[] = [
  { rules: [{ rule: 'five', limit: 5, windowMs: 100 }], subjects: 1, costs: [1], burst: 3, clients: 2 },
  { rules: [{ rule: 'hundred', limit: 100, windowMs: 250 }], subjects: 1, costs: [1, 1, 7], burst: 12, clients: 2 },
  { rules: [{ rule: 'list', limit: 129, windowMs: 300 }], subjects: 1, costs: [1, 5], burst: 12, clients: 2 },
  { rules: [{ rule: 'thousand', limit: 1000, windowMs: 500 }], subjects: 1, costs: [1, 40], burst: 16, clients: 2 },
  {
    rules: [{ rule: 'burst', limit: 6, windowMs: 40 }, { rule: 'minute', limit: 20, windowMs: 200 }, { rule: 'hour', limit: 150, windowMs: 1500 }],
    subjects: 2,
    costs: [1, 2],
    burst: 4,
    clients: 2
  },
  { rules: [{ rule: 'cold', limit: 5, windowMs: 150 }, { rule: 'everybody', limit: 30, windowMs: 150, shared: true }], subjects: 300, costs: [1, 3], burst: 8, clients: 2 }
]

const folder = mkdtempSync(join(tmpdir(), 'marty-proof-'))
t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
const port = await freePort()
const start = async (persistent = true): Promise<void> => {
  redis = await startRedis(port, ['--dir', folder, '--appendonly', persistent ? 'yes' : 'no', '--appendfsync', 'everysec'])
}
let redis = await startRedis(port, ['--dir', folder, '--appendonly', 'yes'])
t.teardown(() => redis.stop())
const admin = openRedis({ port, commandTimeoutMs: 5_000 })
t.teardown(() => admin.close())
await admin.ready(10_000)
const client: RedisClient = admin.client

t.test('healthy, while its scripts are flushed again and again: never above a limit, and every limit used to the full', async t => {
  const adversaries = await startAdversaries(t, { redis: { port }, deadlineMs: 5_000 })
  const before = await scriptsRun(client)
  adversaries.attack(HEALTHY, 'closed')
  const end = Date.now() + Math.max(4_000, SECONDS * 1_000)
  while (Date.now() < end) {
    await client.script('FLUSH')
    await new Promise(resolve => setTimeout(resolve, Math.random() * 200))
  }
  const report = await adversaries.stop()
  judge(t, 'healthy', report, 1)
  t.same(report.outage, null, 'no request was decided without Redis')
  for (const [rule, worst] of worstOfRules(report.decisions)) t.ok(worst.ratio > 0.9, `${rule} was tried: ${worst.ratio}`)
  t.equal(await scriptsRun(client) - before, report.sent, 'each call reached Redis once')
})

t.test('outages', async t => {
  const adversaries = await startAdversaries(t, { redis: { port }, deadlineMs: 50 })
  const freeze = { name: 'frozen', strike: async () => redis.child.kill('SIGSTOP'), mend: async () => redis.child.kill('SIGCONT') }
  const pause = { name: 'paused', strike: async () => await client.call('CLIENT', 'PAUSE', '2000', 'ALL'), mend: async () => await client.ping() }
  const fill = { name: 'out of memory', strike: async () => await client.config('SET', 'maxmemory', '1'), mend: async () => await client.config('SET', 'maxmemory', '0') }
  const kill = { name: 'killed, append-only file', strike: async () => { await redis.child.kill('SIGKILL') }, mend: async () => { await start() } }
  const faults: readonly Fault[] = [
    { ...freeze, mode: 'local', bound: 2 },
    { ...pause, mode: 'closed', bound: 1 },
    { ...fill, mode: 'closed', bound: 1 },
    { ...kill, mode: 'closed', bound: 1 },
    { ...freeze, mode: 'closed', bound: 1 },
    { ...pause, mode: 'local', bound: 2 },
    { ...fill, mode: 'local', bound: 2 },
    { ...kill, mode: 'local', bound: 2 }
  ]
  const end = Date.now() + SECONDS * 1_000
  const least = 4
  for (let i = 0; i < least || Date.now() < end; i++) {
    const fault = faults[i % faults.length]!
    const before = await scriptsRun(client)
    const report = await prove(t, adversaries, fault)
    t.ok(report.outage !== null, 'Redis was gone')
    const after = await scriptsRun(client)
    t.ok(after - (fault.name.startsWith('killed') ? 0 : before) <= report.sent, 'nothing is sent twice')
  }
})

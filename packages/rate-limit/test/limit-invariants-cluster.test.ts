import t from 'tap'
import { type RedisServer, startRedis, until } from '@marty/testing'
import { ask, startCluster } from '@marty/testing/redis-topology'
import { startAdversaries, type Attack } from './adversaries.js'
import { attackUntilTried, judge, namesOf, proveAll, scriptsRun, SECONDS, type Fault } from './limit-invariants.js'

t.setTimeout(400_000 + SECONDS * 4_000)

const HEALTHY: readonly Attack[] = [
  { rules: [{ rule: 'five', limit: 5, windowMs: 100 }], subjects: 1, costs: [1], burst: 3, clients: 2 },
  { rules: [{ rule: 'list', limit: 129, windowMs: 300 }], subjects: 1, costs: [1, 5], burst: 12, clients: 2 },
  {
    rules: [
      { rule: 'own', limit: 20, windowMs: 250 },
      { rule: 'everybody', limit: 60, windowMs: 400, shared: true }
    ],
    subjects: 12,
    costs: [1, 2],
    burst: 6,
    clients: 3
  },
  {
    rules: [
      { rule: 'leased', limit: 400, windowMs: 300, lease: { share: 0.5 } },
      { rule: 'leased-by-all', limit: 2_000, windowMs: 400, shared: true, lease: {} }
    ],
    subjects: 4,
    costs: [1],
    burst: 12,
    clients: 2
  },
  {
    rules: [
      { rule: 'calls', limit: 30, windowMs: 300 },
      { rule: 'calls.burst', windowOf: 'calls', limit: 6, windowMs: 40 },
      { rule: 'large', limit: 300, windowMs: 1_000, shared: true }
    ],
    subjects: 50,
    costs: [1, 2],
    burst: 4,
    clients: 2
  }
]

const cluster = await startCluster(t)
const connection = { cluster: cluster.nodes }
const servers = [...cluster.servers]
const everyNode = async (): Promise<number> =>
  (await Promise.all(servers.map(({ port }) => ask(port, scriptsRun)))).reduce((sum, scripts) => sum + scripts, 0)

t.test('healthy: never above a limit, with rules in several slots and what they refund', async t => {
  const adversaries = await startAdversaries(t, { redis: connection, deadlineMs: 5_000 })
  const before = await everyNode()
  const report = await attackUntilTried(adversaries, HEALTHY, 0.5, namesOf(HEALTHY), async () => {
    await new Promise(resolve => setTimeout(resolve, Math.max(3_000, SECONDS * 1_000)))
  })
  judge(t, 'cluster, healthy', report, 1)
  t.same(report.outage, null, 'no request was decided without Redis')
  t.equal((await everyNode()) - before, report.sent, 'each call reached Redis once')
})

t.test('a master changes', async t => {
  const adversaries = await startAdversaries(t, { redis: connection, deadlineMs: 250 })
  const isMaster = async ({ port }: RedisServer): Promise<boolean> =>
    await ask(port, async client => String(await client.info('replication')).includes('role:master'))
  /** The pair that holds the slots of one shard; the master first. */
  const shard = async (i: number): Promise<[number, number]> =>
    (await isMaster(servers[i]!)) ? [i, i + 3] : [i + 3, i]
  let turn = 0
  let lost: number
  const replaced = async (signal: NodeJS.Signals): Promise<void> => {
    const [master, replica] = await shard(turn++ % 3)
    servers[master]!.child.kill(signal)
    await until(() => isMaster(servers[replica]!), 'the replica to take over')
    lost = master
  }
  const back = async (): Promise<void> => {
    await until(
      () =>
        ask(servers[lost]!.port, async client =>
          String(await client.info('replication')).includes('master_link_status:up')
        ),
      'the former master to follow'
    )
  }

  const hand: Fault = {
    name: 'cluster, failover by hand',
    mode: 'closed',
    bound: 1,
    async strike () {
      for (const i of [0, 1, 2]) {
        const [, replica] = await shard(i)
        await ask(servers[replica]!.port, client => client.call('CLUSTER', 'FAILOVER'))
        await until(() => isMaster(servers[replica]!), 'the replica to take over')
      }
    },
    mend: async () => {}
  }
  const kill: Fault = {
    name: 'cluster, master killed',
    mode: 'closed',
    bound: 2,
    loses: true,
    strike: async () => await replaced('SIGKILL'),
    async mend () {
      const {
        port,
        child: { spawnargs }
      } = servers[lost]!
      const again = await startRedis(port, spawnargs.slice(spawnargs.indexOf('--dir')))
      t.teardown(() => again.stop())
      servers[lost] = again
      await back()
    }
  }
  const freeze: Fault = {
    name: 'cluster, master frozen until replaced',
    mode: 'closed',
    bound: 2,
    loses: true,
    strike: async () => await replaced('SIGSTOP'),
    async mend () {
      servers[lost]!.child.kill('SIGCONT')
      await back()
    }
  }
  await proveAll(t, adversaries, [hand, kill, freeze], async (fault, work) => {
    await work()
  })
})

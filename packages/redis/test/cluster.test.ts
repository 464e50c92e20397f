import t, { type Test } from 'tap'
import { openRedis, redisScript, type RedisClient, type RedisConnection } from '@marty/redis'
import { Cluster } from 'ioredis'
import { freePort, startRedis, until } from '@marty/testing'
import { ask, clusterArgs, startCluster } from '@marty/testing/redis-topology'
import { settlesWithin, startLoad, type Load } from './load.js'
import { startProxy } from './tcp-proxy.js'

/** Keys whose slots lie with the first, second and third master. */
const KEYS = ['{b}', '{c}', '{a}'] as const
const LIMIT_MS = 1_000

t.test('no node is there: everything fails at once, also pipelines, before and after close', async t => {
  const port = await freePort()
  const redis = open(t, { cluster: [{ host: '127.0.0.1', port }] })
  await t.rejects(redis.ready(300), {
    code: 'MARTY_REDIS_UNAVAILABLE',
    message: /last error: 127\.0\.0\.1:\d+: .*ECONNREFUSED/
  })
  await t.rejects(redis.client.get('k'), Error)
  await t.rejects(redis.client.pipeline().get('k').exec(), { message: /not ready/ })
  await t.rejects(redis.client.multi().get('k').exec(), { message: /not ready/ })
  await redis.close()
  await t.rejects(redis.client.pipeline().get('k').exec(), { message: /not ready/ })
})

t.test('a slow network: the slots are learned although that takes longer than a command may', async t => {
  const server = await freePort()
  const proxy = await startProxy(t, server)
  const node = await startRedis(server, [
    ...(await clusterArgs()),
    '--cluster-announce-ip',
    '127.0.0.1',
    '--cluster-announce-port',
    String(proxy.port)
  ])
  t.teardown(() => node.stop())
  await ask(server, client => client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16382'))
  proxy.delay(60)
  const redis = openRedis({ cluster: [{ host: '127.0.0.1', port: proxy.port }], commandTimeoutMs: 200 })
  t.teardown(() => redis.close())
  await until(() => redis.client.status === 'ready', 'the slots to be learned')
  t.match(redis.health(), { status: 'unhealthy', details: { state: 'partial' } }, 'a slot that nobody holds')
  await ask(server, client => client.call('CLUSTER', 'ADDSLOTSRANGE', '16383', '16383'))
  await redis.ready(10_000)
  await until(
    () =>
      redis.client.get('k').then(
        value => value === null,
        () => false
      ),
    'a command'
  )
})

t.test('three masters, three replicas', async t => {
  const { servers, nodes } = await startCluster(t)
  const increment = redisScript("return redis.call('INCR', KEYS[1])")

  t.test(
    'ready means every master: a burst of commands, scripts, pipelines and transactions on each loses none',
    async t => {
      const redis = open(t, { cluster: nodes.slice(3) })
      await redis.ready(10_000)
      t.match(redis.health(), { status: 'healthy', details: { mode: 'cluster', state: 'ready', lastError: null } })
      await Promise.all(
        KEYS.flatMap(key => [
          redis.client.set(key, '1'),
          redis.client.get(key),
          increment(redis.client, [`${key}count`], []),
          increment(redis.client, [`${key}count`], []),
          redis.client.pipeline().set(`${key}p`, '1').get(`${key}p`).exec(),
          redis.client.multi().set(`${key}m`, '1').get(`${key}m`).exec()
        ])
      )
      await t.rejects(redis.client.mget(KEYS[0], KEYS[1]), { message: /^CROSSSLOT/ })
      for (const key of KEYS) t.equal(await redis.client.get(`${key}count`), '2')
      for (const { port } of servers) await ask(port, client => client.script('FLUSH'))
      for (const key of KEYS) {
        t.equal(await increment(redis.client, [`${key}count`], []), 3, 'a server that forgot its scripts')
      }
    }
  )

  t.test('a slot that is being moved, then is: ASK and MOVED are followed', async t => {
    const redis = open(t, { cluster: nodes })
    await redis.ready(10_000)
    const key = '{c}moving'
    const slot = String(await redis.client.cluster('KEYSLOT', key))
    const [source, target] = [servers[1]!.port, servers[2]!.port]
    const [from, to] = await Promise.all(
      [source, target].map(port => ask(port, async client => String(await client.call('CLUSTER', 'MYID'))))
    )
    await redis.client.set(key, '1')
    await ask(target, client => client.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', from!))
    await ask(source, client => client.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', to!))
    await ask(source, client => client.call('MIGRATE', '127.0.0.1', String(target), key, '0', '5000'))
    t.equal(await redis.client.get(key), '1', 'ASK')
    t.same(
      await redis.client.pipeline().get(key).incr(key).exec(),
      [
        [null, '1'],
        [null, 2]
      ],
      'ASK in a pipeline'
    )
    t.equal(await increment(redis.client, [key], []), 3, 'ASK for a script')
    for (const port of [target, source, servers[0]!.port]) {
      await ask(port, client => client.call('CLUSTER', 'SETSLOT', slot, 'NODE', to!))
    }
    t.equal(await redis.client.get(key), '3', 'MOVED')
    t.equal(await increment(redis.client, [key], []), 4)
  })

  t.test(
    'one connection is cut: health says what is missing, and it is made again without being asked for',
    async t => {
      const redis = open(t, { cluster: nodes })
      await redis.ready(10_000)
      let reconnects = 0
      redis.onReconnect(() => {
        reconnects++
      })
      await ask(servers[0]!.port, client => client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'))
      await until(() => reconnects === 1, 'the connection to be made again')
      t.match(redis.health(), { status: 'healthy', details: { reconnects: 1 } })
      await redis.client.get(KEYS[0])
    }
  )

  for (const [what, signal, index] of [
    ['killed', 'SIGKILL', 0],
    ['frozen', 'SIGSTOP', 1]
  ] as const) {
    t.test(`a master is ${what}: every command settles at once, and its replica takes over by itself`, async t => {
      const redis = open(t, { cluster: nodes })
      await redis.ready(10_000)
      const key = KEYS[index]
      const commands: Array<() => Promise<unknown>> = [
        () => redis.client.incr(`${key}load`),
        () => increment(redis.client, [`${key}load`], []),
        () => transactional(redis.client, `${key}load`),
        () => redis.client.incr(`${KEYS[2]}load`)
      ]
      const loads = commands.map(startLoad)
      await until(() => loads.every(({ outcomes }) => outcomes.has('OK')), 'the first successes')
      const hit = performance.now()
      servers[index]!.child.kill(signal)
      await until(() => redis.health().status === 'unhealthy', 'the loss to be known')
      await until(() => redis.health().details.lastError !== null, 'the reason')
      t.match(redis.health(), { status: 'unhealthy', details: { state: 'partial', lastError: String } })
      await until(() => redis.health().status === 'healthy', 'the replica to take over', 30_000)
      const before = successes(loads)
      await until(
        () => successes(loads).every((count, index) => count > before[index]! + 10),
        'all commands to work again',
        30_000
      )
      t.comment(
        `whole again ${Math.round(performance.now() - hit)} ms later, worst ${loads.map(load => Math.round(load.worstMs())).join(', ')} ms`
      )
      for (const load of loads) {
        await load.stop(LIMIT_MS)
        t.ok(load.worstMs() < LIMIT_MS, 'no command waited for the failover')
      }
      // The nodes hear of a failover one after another, and each account of the slots comes from one of them: a late
      // one's takes it back for a moment.
      t.ok(redis.health().details.reconnects >= 1, 'the loss and its end were counted')
    })
  }

  t.test('all nodes are frozen: commands and pipelines settle, and so does close', async t => {
    const redis = open(t, { cluster: nodes })
    await redis.ready(10_000)
    const load = startLoad(() => redis.client.get(KEYS[2]))
    const pipelines = startLoad(() => transactional(redis.client, KEYS[2]))
    for (const { child } of servers) child.kill('SIGSTOP')
    await until(
      () => redis.health().status === 'unhealthy' && redis.health().details.state !== 'partial',
      'the loss to be known'
    )
    await load.stop(LIMIT_MS)
    await pipelines.stop(LIMIT_MS)
    t.ok(Math.max(load.worstMs(), pipelines.worstMs()) < LIMIT_MS, 'no command waited')
    await settlesWithin(LIMIT_MS, redis.close())
    t.match(redis.health(), { status: 'unhealthy', details: { state: 'closed' } })
  })
})

function open (t: Test, options: { cluster: ReadonlyArray<{ host: string; port: number }> }): RedisConnection {
  const redis = openRedis(options)
  t.teardown(() => redis.close())
  t.ok(redis.client instanceof Cluster)
  return redis
}

/** A transaction settles with its results, errors among them; here the first error is what it rejects with. */
async function transactional (client: RedisClient, key: string): Promise<void> {
  for (const [error] of (await client.multi().incr(`${key}multi`).exec()) ?? []) if (error !== null) throw error
}

function successes (loads: readonly Load[]): number[] {
  return loads.map(({ outcomes }) => outcomes.get('OK') ?? 0)
}

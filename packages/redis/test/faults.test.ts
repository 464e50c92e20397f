import t, { type Test } from 'tap'
import { openRedis, redisScript, type RedisConnection, type RedisOptions } from '@marty/redis'
import { freePort, type RedisServer, startRedis, until } from '@marty/testing'
import { ask, clusterArgs } from '@marty/testing/redis-topology'
import { startLoad } from './load.js'
import { startProxy } from './tcp-proxy.js'

/** Far below any of the waits that must not happen, far above the deadline on a busy machine. */
const LIMIT_MS = 1_000

async function server (t: Test, args: readonly string[] = []): Promise<RedisServer> {
  const redis = await startRedis(await freePort(), args)
  t.teardown(() => redis.stop())
  return redis
}

async function open (t: Test, options: RedisOptions): Promise<RedisConnection & { reconnects(): number }> {
  const redis = openRedis(options)
  t.teardown(() => redis.close())
  let count = 0
  redis.onReconnect(() => {
    count++
  })
  await redis.ready(10_000)
  return { ...redis, reconnects: () => count }
}

t.test('frozen: commands, scripts, pipelines and transactions all fail by the deadline', async t => {
  const { port, child } = await server(t)
  const { client, health } = await open(t, { port })
  const script = redisScript('return 1')
  await script(client, [], [])
  child.kill('SIGSTOP')
  const loads = [
    () => client.get('k'),
    () => script(client, [], []),
    () => client.eval('return 1', 0),
    () =>
      client
        .pipeline()
        .get('k')
        .get('k')
        .exec()
        .then(results => Promise.reject(results![1]![0])),
    () => client.multi().get('k').exec()
  ].map(startLoad)
  await until(() => loads.every(({ outcomes }) => outcomes.has('Command timed out')), 'every kind to fail')
  await until(() => health().status === 'unhealthy', 'the dead socket to be given up')
  for (const load of loads) {
    await load.stop(LIMIT_MS)
    t.ok(load.worstMs() < LIMIT_MS)
    t.notOk(load.outcomes.has('OK'))
  }
  t.match(health().details.lastError, /Socket timeout/)
})

t.test('CLIENT KILL: the connection is made again at once', async t => {
  const { port } = await server(t)
  const redis = await open(t, { port })
  const load = startLoad(() => redis.client.incr('k'))
  await ask(port, client => client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'))
  await until(() => redis.reconnects() === 1, 'the next connection')
  const before = load.outcomes.get('OK') ?? 0
  await until(() => (load.outcomes.get('OK') ?? 0) > before, 'commands to work')
  await load.stop(LIMIT_MS)
  t.ok(load.worstMs() < LIMIT_MS)
})

t.test('CLIENT PAUSE and a script that runs too long: commands settle meanwhile and work afterwards', async t => {
  const { port } = await server(t, ['--enable-debug-command', 'yes'])
  const redis = await open(t, { port })
  for (const stall of [
    ['CLIENT', 'PAUSE', '1500', 'ALL'],
    ['DEBUG', 'SLEEP', '0.3']
  ] as const) {
    const load = startLoad(() => redis.client.incr('k'))
    await until(() => load.outcomes.has('OK'), 'commands to work')
    await ask(port, client => client.call(stall[0], ...stall.slice(1)))
    await until(() => load.outcomes.has('Command timed out'), 'commands to fail')
    const before = load.outcomes.get('OK')!
    await until(() => load.outcomes.get('OK')! > before + 10, 'commands to work again')
    await load.stop(LIMIT_MS)
    t.ok(load.worstMs() < LIMIT_MS, stall.join(' '))
  }
})

t.test(
  'a slow network: below the deadline all is well, above it every command fails and the connection is kept',
  async t => {
    const { port } = await server(t)
    const proxy = await startProxy(t, port)
    const redis = await open(t, { port: proxy.port, commandTimeoutMs: 400 })
    proxy.delay(20)
    t.equal(await redis.client.incr('k'), 1)
    proxy.delay(250)
    await t.rejects(redis.client.incr('k'), { message: 'Command timed out' })
    proxy.delay(0)
    await until(
      () =>
        redis.client.get('k').then(
          value => value === '2',
          () => false
        ),
      'late answers to be passed by: the command was carried out all the same'
    )
    t.equal(proxy.connections(), 1)
  }
)

t.test('the network swallows everything: the connection is replaced, in use or idle', async t => {
  const { port } = await server(t)
  const node = await freePort()
  const proxies = await Promise.all([startProxy(t, port), startProxy(t, port), startProxy(t, node)])
  const cluster = await startRedis(node, [
    ...(await clusterArgs()),
    '--cluster-announce-ip',
    '127.0.0.1',
    '--cluster-announce-port',
    String(proxies[2].port)
  ])
  t.teardown(() => cluster.stop())
  await ask(node, client => client.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383'))
  const [idle, busy, clustered] = await Promise.all([
    open(t, { port: proxies[0].port }),
    open(t, { port: proxies[1].port }),
    open(t, { cluster: [{ host: '127.0.0.1', port: proxies[2].port }] })
  ])
  const load = startLoad(() => busy.client.incr('k'))
  await until(() => load.outcomes.has('OK'), 'commands to work')
  const started = performance.now()
  for (const proxy of proxies) proxy.blackhole()
  await until(() => [idle, busy, clustered].every(redis => redis.reconnects() === 1), 'all to be replaced')
  t.comment(`replaced after ${Math.round(performance.now() - started)} ms`)
  await load.stop(LIMIT_MS)
  t.ok(load.worstMs() < LIMIT_MS)
  for (const redis of [idle, busy, clustered]) {
    t.match(redis.health(), { status: 'healthy', details: { reconnects: 1, lastError: null } })
  }
  t.equal(await idle.client.ping(), 'PONG')
})

t.test('a script is known again after SCRIPT FLUSH and after a restart; other failures are not sent twice', async t => {
  const first = await startRedis(await freePort())
  t.teardown(() => first.stop())
  const redis = await open(t, { port: first.port })
  const increment = redisScript("return redis.call('INCR', KEYS[1])")
  const broken = redisScript("redis.call('INCR', KEYS[1]) return redis.call('NOSUCH')")
  t.equal(await increment(redis.client, ['k'], []), 1)
  await redis.client.script('FLUSH')
  t.equal(await increment(redis.client, ['k'], []), 2)
  await t.rejects(broken(redis.client, ['broken'], []), Error)
  t.equal(await redis.client.get('broken'), '1')
  await first.stop()
  const second = await startRedis(first.port)
  t.teardown(() => second.stop())
  await until(() => redis.reconnects() === 1, 'the next connection')
  t.equal(await increment(redis.client, ['k'], []), 1)
})

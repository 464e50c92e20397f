import t from 'tap'
import { openRedis, redisScript } from '@marty/redis'
import { freePort, until } from '@marty/testing'
import { ask, startSentinels } from '@marty/testing/redis-topology'
import { startLoad } from './load.js'

t.test('sentinel', async t => {
  const { sentinels, master, replica } = await startSentinels(t)

  t.test('an unknown name and sentinels that are away are told', async t => {
    const lost = openRedis({ sentinels, name: 'other' })
    t.teardown(() => lost.close())
    await t.rejects(lost.ready(500), { code: 'MARTY_REDIS_UNAVAILABLE', message: /No such master with that name/ })
    const away = openRedis({ sentinels: [{ host: '127.0.0.1', port: await freePort() }], name: 'main' })
    t.teardown(() => away.close())
    await t.rejects(away.ready(500), { code: 'MARTY_REDIS_UNAVAILABLE', message: /failed to connect to sentinel/ })
    await t.rejects(away.client.get('k'), Error)
  })

  t.test('the master is killed: commands fail at once, and work again by themselves on the new one', async t => {
    const redis = openRedis({ sentinels, name: 'main' })
    t.teardown(() => redis.close())
    await redis.ready(10_000)
    t.match(redis.health(), { status: 'healthy', details: { mode: 'sentinel', state: 'ready' } })
    let reconnects = 0
    redis.onReconnect(() => { reconnects++ })
    const increment = redisScript("return redis.call('INCR', KEYS[1])")
    await increment(redis.client, ['count'], [])
    const load = startLoad(() => increment(redis.client, ['count'], []))
    await until(() => load.outcomes.has('OK'), 'the first success')

    const killed = performance.now()
    master.child.kill('SIGKILL')
    await until(() => redis.health().status === 'unhealthy', 'the loss to be known')
    const before = load.outcomes.get('OK')!
    await until(() => load.outcomes.get('OK')! > before + 10, 'commands to work again', 30_000)
    t.comment(`writes again ${Math.round(performance.now() - killed)} ms after the kill, worst command ${Math.round(load.worstMs())} ms`)
    await load.stop(1_000)
    t.ok(load.worstMs() < 1_000, 'no command waited for the failover')
    t.match(redis.health(), { status: 'healthy', details: { lastError: null, reconnects: 1 } })
    t.equal(reconnects, 1)
    t.match(String(await redis.client.info('replication')), /role:master/)
  })

  t.test('a master that becomes a replica under a living connection is left at the first READONLY', async t => {
    const stale = openRedis({ port: replica.port, commandTimeoutMs: 1_000 })
    t.teardown(() => stale.close())
    await stale.ready(10_000)
    let reconnects = 0
    stale.onReconnect(() => { reconnects++ })
    await ask(replica.port, client => client.call('REPLICAOF', '127.0.0.1', '1'))
    await t.rejects(stale.client.set('k', 'v'), { message: /^READONLY/ })
    await until(() => reconnects === 1, 'the next connection')
  })
})

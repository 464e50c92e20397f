import t, { type Test } from 'tap'
import { openRedis, type RedisConnection, type RedisOptions } from '@marty/redis'
import { freePort, type RedisServer, startRedis, until } from '@marty/testing'

async function server (t: Test, args: readonly string[] = []): Promise<RedisServer> {
  const redis = await startRedis(await freePort(), args)
  t.teardown(() => redis.stop())
  return redis
}

async function open (t: Test, options: RedisOptions): Promise<RedisConnection> {
  const redis = openRedis({ reconnectMaxDelayMs: 100, ...options })
  t.teardown(() => redis.close())
  return redis
}

t.test('nobody listens: ready rejects by its deadline, commands fail, health says so', async t => {
  const port = await freePort()
  const redis = await open(t, { host: '127.0.0.1', port })
  await t.rejects(redis.ready(300), {
    code: 'MARTY_REDIS_UNAVAILABLE',
    message: new RegExp(`127\\.0\\.0\\.1:${port} was not ready within 300 ms; last error: .*ECONNREFUSED`)
  })
  await t.rejects(redis.client.get('a'), Error)
  t.match(redis.health(), {
    status: 'unhealthy',
    details: { mode: 'single', nodes: [`127.0.0.1:${port}`], lastError: /ECONNREFUSED/ }
  })
})

t.test('a wrong password is told without repeating it, to nobody', async t => {
  const { port } = await server(t, ['--requirepass', 'right-password'])
  const redis = await open(t, { url: `redis://:hunter2-wrong@127.0.0.1:${port}` })
  const seen: unknown[] = []
  redis.client.on('error', error => {
    seen.push(error)
  })
  await t.rejects(redis.ready(500), { code: 'MARTY_REDIS_UNAVAILABLE', message: /WRONGPASS/ })
  await until(() => seen.length > 0, 'an error')
  t.notMatch(JSON.stringify([seen.map(error => ({ ...(error as object) })), redis.health()]), 'hunter2-wrong')
})

t.test('password, ACL user, database and connection name are used', async t => {
  const { port } = await server(t, ['--requirepass', 'pass/word'])
  const one = await open(t, { url: `redis://:pass%2Fword@127.0.0.1:${port}/3`, connectionName: 'limits' })
  await one.ready(5_000)
  t.match(await one.client.call('CLIENT', 'INFO'), /name=limits .*db=3/)
  await one.client.call('ACL', 'SETUSER', 'alice', 'on', '>secret@1', '~*', '+@all')
  const two = await open(t, { host: '127.0.0.1', port, username: 'alice', password: 'secret@1', db: 2 })
  await two.ready(5_000)
  t.equal(await two.client.call('ACL', 'WHOAMI'), 'alice')
  await two.client.set('k', 'v')
  t.equal(await two.client.get('k'), 'v')
  t.equal(await one.client.get('k'), null, 'other database')
  t.match(two.health(), { status: 'healthy', details: { state: 'ready', lastError: null, reconnects: 0 } })
})

t.test('a frozen server fails commands at the deadline and is connected again when it thaws', async t => {
  const { port, child } = await server(t)
  const redis = await open(t, { port, commandTimeoutMs: 80 })
  let reconnects = 0
  const stop = redis.onReconnect(() => {
    reconnects++
  })
  await redis.ready(5_000)
  child.kill('SIGSTOP')
  await t.rejects(redis.client.get('k'), { message: /timed out/i })
  await until(() => redis.health().status === 'unhealthy', 'the dead socket to be given up')
  child.kill('SIGCONT')
  await redis.ready(10_000)
  t.equal(await redis.client.ping(), 'PONG')
  t.equal(reconnects, 1)
  t.equal(redis.health().details.reconnects, 1)
  stop()
})

t.test('a killed server fails commands at once, and the connection comes back after its restart', async t => {
  const port = await freePort()
  const first = await startRedis(port)
  t.teardown(() => first.stop())
  const redis = await open(t, { port, commandTimeoutMs: 3_000 })
  let reconnects = 0
  const stop = redis.onReconnect(() => {
    reconnects++
  })
  const silent: number[] = []
  redis.onReconnect(() => {
    silent.push(1)
  })()
  await redis.ready(5_000)
  const pending = redis.client.blpop('nothing', 0)
  pending.catch(() => {})
  await first.stop('SIGKILL')
  await t.rejects(
    pending,
    { message: /retries|closed/i },
    'a command that was on its way, by the loss and not by its deadline'
  )
  await t.rejects(
    redis.client.set('k', 'v'),
    { message: /enableOfflineQueue|closed|retries/i },
    'a command sent meanwhile'
  )
  const second = await startRedis(port)
  t.teardown(() => second.stop())
  await redis.ready(10_000)
  t.equal(await redis.client.get('k'), null, 'nothing was repeated behind the caller')
  t.equal(reconnects, 1)
  t.same(silent, [], 'a listener that was removed is not called')
  stop()
})

t.test(
  'close ends it: commands and ready reject, a second close is fine, a frozen server does not hold it',
  async t => {
    const { port, child } = await server(t)
    const redis = await open(t, { port })
    await redis.ready(5_000)
    await redis.close()
    await redis.close()
    await t.rejects(redis.client.ping(), Error)
    await t.rejects(redis.ready(1_000), { code: 'MARTY_REDIS_UNAVAILABLE', message: /closed/ })
    t.match(redis.health(), { status: 'unhealthy', details: { state: 'closed' } })

    const frozen = await open(t, { port })
    await frozen.ready(5_000)
    child.kill('SIGSTOP')
    await frozen.close()
    t.equal(frozen.health().details.state, 'closed')

    const never = await open(t, { port: await freePort() })
    const waiting = never.ready(30_000)
    waiting.catch(() => {})
    await never.close()
    await t.rejects(waiting, { code: 'MARTY_REDIS_UNAVAILABLE', message: /closed/ })
  }
)

import t, { type Test } from 'tap'
import fastifyRateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance } from 'fastify'
import {
  createInstanceCount,
  rateLimit,
  slidingWindowStore,
  type InstanceCount,
  type RedisStoreSettings
} from '@marty/rate-limit'
import { openRedis, type RedisClient } from '@marty/redis'
import { freePort, type RedisServer, startRedis, until } from '@marty/testing'
import { ask } from '@marty/testing/redis-topology'

const KEY = '{marty:limit}:#instances'
const WINDOW_MS = 60_000

async function server (t: Test): Promise<RedisServer> {
  const redis = await startRedis(await freePort())
  t.teardown(() => redis.stop())
  return redis
}

async function client (
  t: Test,
  port: number,
  login: { username?: string; password?: string } = {}
): Promise<RedisClient> {
  const redis = openRedis({ port, commandTimeoutMs: 2_000, ...login })
  t.teardown(() => redis.close())
  await redis.ready(10_000)
  return redis.client
}

async function limited (
  t: Test,
  redis: RedisClient,
  settings: Partial<RedisStoreSettings> = {}
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  const rules = {
    client: { limit: 60, windowMs: WINDOW_MS, by: 'address' },
    small: { limit: 3, windowMs: WINDOW_MS, by: 'address' }
  } as const
  await app.register(rateLimit, { rules, store: { redis, deadlineMs: 2_000, ...settings } })
  await app.ready()
  return app
}

/** Returns when each instance, by its client, has heard of all the others. */
async function allKnown (port: number, clients: readonly RedisClient[]): Promise<void> {
  const beats = async (): Promise<Map<string, number>> =>
    await ask(port, async redis => {
      const flat = ((await redis.call('ZRANGE', KEY, '0', '-1', 'WITHSCORES')) as unknown[]).flat() as string[]
      return new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i]!, Number(flat[2 * i + 1])]))
    })
  let first = await beats()
  await until(async () => (first = await beats()).size === clients.length, 'every instance to be counted')
  await until(
    async () => [...(await beats())].every(([id, at]) => at > first.get(id)!),
    'every instance to beat once more'
  )
  // Their answers have been read once a later one was.
  await Promise.all(clients.map(client => client.ping()))
}

async function admitted (app: FastifyInstance, rule: string, times: number): Promise<number> {
  let count = 0
  for (let i = 0; i < times; i++) {
    const { allowed, degraded } = await app.limiter.check({ address: '192.0.2.1' }, [rule])
    if (!degraded) throw new Error('Redis is there')
    if (allowed) count++
  }
  return count
}

t.setTimeout(120_000)

t.test('four instances that were told nothing admit the limit once while Redis is gone, together', async t => {
  const redis = await server(t)
  const clients = await Promise.all([0, 1, 2, 3].map(async () => await client(t, redis.port)))
  const apps = await Promise.all(clients.map(async client => await limited(t, client)))
  await allKnown(redis.port, clients)
  await redis.stop()
  t.same(await Promise.all(apps.map(async app => await admitted(app, 'client', 61))), [15, 15, 15, 15])
  t.same(
    await Promise.all(apps.map(async app => await admitted(app, 'small', 4))),
    [1, 1, 1, 1],
    'never less than one request each'
  )
})

t.test('an instance that has never reached Redis admits one request in a window', async t => {
  const nowhere = openRedis({ port: await freePort() })
  t.teardown(() => nowhere.close())
  const app = await limited(t, nowhere.client)
  t.equal(await admitted(app, 'client', 61), 1)
  const sure = await limited(t, nowhere.client, { instances: 2 })
  t.equal(await admitted(sure, 'client', 61), 30, 'unless it was told how many there are')
})

t.test('instances of @fastify/rate-limit count each other too', async t => {
  const redis = await server(t)
  const clients = await Promise.all([0, 1].map(async () => await client(t, redis.port)))
  const apps = await Promise.all(
    clients.map(async redis => {
      const app = Fastify()
      t.teardown(() => app.close())
      await app.register(fastifyRateLimit, { max: 10, timeWindow: WINDOW_MS, store: slidingWindowStore({ redis }) })
      app.get('/', async () => 'ok')
      await app.ready()
      return app
    })
  )
  await allKnown(redis.port, clients)
  await redis.stop()
  for (const app of apps) {
    const statuses = []
    for (let i = 0; i < 11; i++) statuses.push((await app.inject('/')).statusCode)
    t.equal(statuses.filter(status => status === 200).length, 5)
  }
})

async function counting (t: Test, redis: RedisClient, onFailure?: (error: unknown) => void): Promise<InstanceCount> {
  const count = createInstanceCount(onFailure === undefined ? { redis } : { redis, onFailure })
  t.teardown(() => count.close())
  t.equal(count.current(), Infinity)
  count.start()
  return count
}

t.test('who closes is gone at once; who died, or beats in a future that a clock has left, after a while', async t => {
  const { port } = await server(t)
  const redis = await client(t, port)
  const [seconds] = await redis.time()
  await redis.zadd(
    KEY,
    (Number(seconds) - 11) * 1000,
    'died',
    (Number(seconds) + 3_600) * 1000,
    'from the future',
    Number(seconds) * 1000,
    'silent'
  )
  const [one, other] = [await counting(t, redis), await counting(t, redis)]
  await until(() => one.current() === 3 && other.current() === 3, 'both and the silent one to be counted')
  t.equal(await redis.zcard(KEY), 3)
  await other.close()
  t.equal(await redis.zcard(KEY), 2)
  await until(async () => (await redis.zcard(KEY)) === 1, 'the silent one to be given up')
  await until(() => one.current() === 1, 'the smaller number to be believed')
  t.ok((await redis.pttl(KEY)) > 0, 'it leaves nothing behind')
})

t.test('a Redis that lost its data does not make an instance believe it is alone', async t => {
  const { port } = await server(t)
  const redis = await client(t, port)
  const [seconds] = await redis.time()
  await redis.zadd(KEY, Number(seconds) * 1000, 'other', Number(seconds) * 1000, 'third')
  const count = await counting(t, redis)
  await until(() => count.current() === 3, 'all to be counted')
  await redis.flushall()
  await until(async () => (await redis.zcard(KEY)) === 1, 'the next heartbeat')
  await redis.ping()
  t.equal(count.current(), 3)
})

t.test('a user that may not count is told of once, and limits hold', async t => {
  const { port } = await server(t)
  await ask(port, async redis => {
    await redis.call('ACL', 'SETUSER', 'narrow', 'on', '>secret', '~{marty:limit}:*', '+@all', '-zadd')
  })
  const redis = await client(t, port, { username: 'narrow', password: 'secret' })
  const failures: unknown[] = []
  const count = await counting(t, redis, error => {
    failures.push(error)
  })
  await until(() => failures.length > 0, 'the failure')
  t.match(failures, [{ message: /NOPERM|can't run this command|no permissions/i }])
  t.equal(count.current(), Infinity)
  const app = await limited(t, redis)
  t.match(await app.limiter.check({ address: '192.0.2.1' }, ['small']), { allowed: true, degraded: false })
})

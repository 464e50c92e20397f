import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import fastifyRateLimit from '@fastify/rate-limit'
import { rateLimit, slidingWindowStore, type StoreFailureMode } from '@marty/rate-limit'
import { until } from '@marty/testing'
import { newApp, newSpace, startServer, statuses } from './fastify-rate-limit-subjects.js'

/** `@fastify/rate-limit` on our store while Redis is frozen, gone or has lost its memory. */
const LONG = 600_000
const MODES: readonly StoreFailureMode[] = ['local', 'closed', 'open']

async function limited (
  t: Test,
  redis: Awaited<ReturnType<typeof startServer>>['redis'],
  onFailure: StoreFailureMode,
  how: 'store' | 'option',
  extra = {}
): Promise<FastifyInstance> {
  const app = newApp(t)
  const settings = { max: 2, timeWindow: LONG, ...extra }
  // Longer than the default, so that only a fault makes Redis late.
  const shared = { redis, onFailure, prefix: newSpace(), deadlineMs: 250, instances: 1 }
  if (how === 'store') await app.register(fastifyRateLimit, { ...settings, store: slidingWindowStore(shared) })
  else await app.register(rateLimit, { rules: {}, store: shared, fastifyRateLimit: settings })
  app.get('/', async () => 'ok')
  return app
}

/** What three requests of a client may be answered whose limit is two, one of which Redis has counted. */
const EXPECTED = { local: /^(200,)?(200,)?(429,?)+$/, closed: /^503,503,503$/, open: /^200,200,200$/ } as const

t.test('frozen: every request is answered by the mode, and exactly again when Redis is back', async t => {
  const { redis, pid } = await startServer(t)
  for (const onFailure of MODES) {
    for (const how of ['store', 'option'] as const) {
      const app = await limited(t, redis, onFailure, how)
      t.equal((await app.inject('/')).statusCode, 200)
      process.kill(pid, 'SIGSTOP')
      try {
        t.match((await statuses(app, 3, '/')).join(), EXPECTED[onFailure], `${how}, ${onFailure}`)
      } finally {
        process.kill(pid, 'SIGCONT')
      }
      // What was on its way when Redis froze may have been counted; the limit of two is never passed.
      await until(async () => (await redis.ping().catch(() => '')) === 'PONG', 'Redis to answer')
      await until(async () => (await app.inject('/')).statusCode === 429, 'the limit to hold')
    }
  }
})

t.test('gone: no error of the connection reaches the caller', async t => {
  const { redis, pid } = await startServer(t)
  const apps = await Promise.all(MODES.map(async onFailure => await limited(t, redis, onFailure, 'store')))
  for (const app of apps) t.equal((await app.inject('/')).statusCode, 200)
  process.kill(pid, 'SIGKILL')
  await until(() => redis.status !== 'ready', 'the connection to end')
  for (const [i, onFailure] of MODES.entries()) {
    t.match((await statuses(apps[i]!, 3, '/')).join(), EXPECTED[onFailure], onFailure)
    const answer = await apps[i]!.inject('/')
    t.notMatch(answer.body, /ECONN|Stream|writ/i)
  }
  const closed = await apps[1]!.inject('/')
  t.match([closed.statusCode, closed.json().code], [503, 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE'])
})

t.test('a refusal stays one when Redis goes before it has been counted for the ban', async t => {
  for (const onFailure of MODES) {
    const { redis, pid } = await startServer(t)
    const app = await limited(t, redis, onFailure, 'store', { max: 1, ban: 20, skipOnError: true })
    t.same(await statuses(app, 2, '/'), [200, 429])
    process.kill(pid, 'SIGSTOP')
    try {
      // The last of them after the breaker has opened.
      t.same(await statuses(app, 5, '/'), new Array(5).fill(429), onFailure)
    } finally {
      process.kill(pid, 'SIGCONT')
    }
  }
})

t.test('looking while Redis is gone takes nothing from the local budget either', async t => {
  const { redis, pid } = await startServer(t)
  const apps = await Promise.all(
    MODES.map(async onFailure => await limited(t, redis, onFailure, 'store', { global: false }))
  )
  process.kill(pid, 'SIGKILL')
  await until(() => redis.status !== 'ready', 'the connection to end')
  const remaining: unknown[] = []
  for (const app of apps) {
    const limit = app.createRateLimit()
    app.setNotFoundHandler(async request => await limit(request, { increment: false }))
    for (let i = 0; i < 3; i++) await app.inject('/look')
    remaining.push((await app.inject('/look')).json().remaining)
  }
  t.same(remaining, [2, undefined, 2])
})

t.test('with several instances each takes its part', async t => {
  const { redis, pid } = await startServer(t)
  const app = newApp(t)
  const degraded: Error[] = []
  await app.register(fastifyRateLimit, {
    max: 6,
    ban: 4,
    timeWindow: LONG,
    store: slidingWindowStore({
      redis,
      instances: 2,
      onDegraded: error => {
        degraded.push(error)
      }
    })
  })
  app.get('/', async () => 'ok')
  process.kill(pid, 'SIGKILL')
  await until(() => redis.status !== 'ready', 'the connection to end')
  t.same(await statuses(app, 8, '/'), [200, 200, 200, 429, 429, 403, 403, 403])
  t.ok(degraded.length > 0, 'the application is told')
})

t.test('scripts flushed: nothing is lost and nothing counted twice', async t => {
  const { redis } = await startServer(t)
  const app = newApp(t)
  await app.register(fastifyRateLimit, {
    max: 5,
    timeWindow: LONG,
    store: slidingWindowStore({ redis, deadlineMs: 10_000 })
  })
  app.get('/', async () => 'ok')
  const remaining: string[] = []
  for (let i = 0; i < 5; i++) {
    await redis.script('FLUSH')
    remaining.push(String((await app.inject('/')).headers['x-ratelimit-remaining']))
  }
  t.same(remaining, ['4', '3', '2', '1', '0'])
  t.equal((await app.inject('/')).statusCode, 429)
})

t.test('what clients send enters keys hashed and bounded, and every key expires', async t => {
  const { redis } = await startServer(t)
  const app = newApp(t)
  await app.register(fastifyRateLimit, {
    max: 1,
    ban: 3,
    timeWindow: 5000,
    keyGenerator: request => (request.query as { key: string }).key.repeat(100_000),
    store: slidingWindowStore({ redis, deadlineMs: 10_000, prefix: 'shop:limit' })
  })
  app.get('/', async () => 'ok')
  app.get('/own', { config: { rateLimit: { max: () => 1 } } }, async () => 'ok')
  for (const key of ['secret', '{x}', 'a:b', '%0A']) {
    t.equal((await app.inject(`/?key=${key}`)).statusCode, 200, key)
    t.equal((await app.inject(`/?key=${key}`)).statusCode, 429, key)
    t.equal((await app.inject(`/own?key=${key}`)).statusCode, 200, key)
  }
  const instances = '{shop:limit}:#instances'
  await until(async () => (await redis.pttl(instances)) > 0, 'the instance to be counted')
  const keys = (await redis.keys('*')).filter(key => key !== instances)
  t.equal(keys.length, 12)
  for (const key of keys) {
    t.match(key, /^\{shop:limit\}:@fastify\/rate-limit(:refused|:l)?:[\w-]{22}$/)
    const left = await redis.pttl(key)
    t.ok(left > 0 && left <= 7250, 'a window and a quarter, and one second')
  }
})

t.test('refused clients cost Redis nothing, nor do banned ones', async t => {
  const { redis } = await startServer(t)
  const app = newApp(t)
  await app.register(fastifyRateLimit, {
    max: 2,
    ban: 2,
    timeWindow: LONG,
    store: slidingWindowStore({ redis, deadlineMs: 10_000, instances: 1 })
  })
  app.get('/', async () => 'ok')
  app.get('/plain', { config: { rateLimit: { ban: -1 } } }, async () => 'ok')
  const calls = async (): Promise<number> =>
    Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0)
  t.same(await statuses(app, 5, '/'), [200, 200, 429, 429, 403])
  t.same(await statuses(app, 2, '/plain'), [200, 200])
  const before = await calls()
  t.same(await statuses(app, 20, '/'), new Array(20).fill(403))
  t.same(await statuses(app, 20, '/plain'), new Array(20).fill(429))
  t.equal(await calls(), before)
})

import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { ANONYMOUS, problemErrorHandler, type Principal } from '@marty/core'
import { createLimitAdmin, rateLimit, type LimitMetrics, type RateLimitOptions } from '@marty/rate-limit'
import { openRedis, type RedisClient } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'

const MINUTE = 60_000
const user = (id: string, roles: string[] = []): Principal => ({
  ...ANONYMOUS,
  id,
  kind: 'user',
  roles,
  authenticatedBy: 'jwt'
})
const rules: RateLimitOptions['rules'] = {
  address: { limit: 2, windowMs: MINUTE, by: 'address' },
  user: { limit: { default: 3, admin: 200 }, windowMs: MINUTE, by: 'principal' },
  heavy: { limit: 10, windowMs: MINUTE, by: 'principal+operation', cost: 4 }
}

const server = await startRedis(await freePort())
t.teardown(() => server.stop())

async function connect (t: Test): Promise<RedisClient> {
  const redis = openRedis({ url: `redis://127.0.0.1:${server.port}`, commandTimeoutMs: 2_000 })
  t.teardown(() => redis.close())
  await redis.ready(10_000)
  return redis.client
}

async function build (t: Test, options: Partial<RateLimitOptions> = {}): Promise<FastifyInstance> {
  const app = Fastify({ trustProxy: '127.0.0.1' })
  app.setErrorHandler(problemErrorHandler)
  await app.register(rateLimit, { rules, apply: { http: ['address'] }, ...options })
  app.get('/', { config: { security: { public: true } } }, async () => 'ok')
  t.teardown(() => app.close())
  await app.ready()
  return app
}

const ask = async (app: FastifyInstance, address: string): Promise<number> =>
  (await app.inject({ url: '/', headers: { 'x-forwarded-for': address } })).statusCode
const prefixes = (function * () {
  for (let i = 0; ; i++) yield `test:${i}`
})()
const fresh = (): string => prefixes.next().value!

for (const kind of ['memory', 'redis'] as const) {
  const storeOf = async (t: Test): Promise<NonNullable<RateLimitOptions['store']>> =>
    kind === 'memory' ? 'memory' : { redis: await connect(t), prefix: fresh(), deadlineMs: 2_000 }

  t.test(`${kind}: peek says what check would, and takes nothing`, async t => {
    const { limiter } = await build(t, { store: await storeOf(t) })
    await t.rejects(limiter.peek({ address: null }, ['adress']), {
      code: 'MARTY_CORE_RULE_INVALID',
      message: /limiter\.peek\(\).*did you mean "address"/
    })
    await t.rejects(limiter.peek({ address: null }, ['address'], 0), {
      code: 'MARTY_RATE_LIMIT_OPT_INVALID',
      message: /limiter\.peek\(\) cost/
    })
    t.match(await limiter.peek({ address: null }, ['address'], 3), {
      allowed: false,
      retryAfterMs: Infinity,
      violated: ['address']
    })

    const who = { address: '192.0.2.1', principal: user('ada'), operation: 'export' }
    for (let i = 0; i < 3; i++) {
      t.strictSame(
        { ...(await limiter.peek(who, ['address', 'heavy'])) },
        {
          allowed: true,
          retryAfterMs: 0,
          violated: [],
          degraded: false,
          quotas: [
            { rule: 'address', limit: 2, windowMs: MINUTE, remaining: 2, resetMs: 0 },
            { rule: 'heavy', limit: 10, windowMs: MINUTE, remaining: 10, resetMs: 0 }
          ]
        }
      )
    }
    await limiter.check(who, ['heavy'])
    await limiter.check(who, ['heavy'])
    const full = await limiter.peek(who, ['address', 'heavy'])
    t.match(full, { allowed: false, violated: ['heavy'], quotas: [{ remaining: 2 }, { remaining: 2 }] })
    t.ok(full.retryAfterMs > MINUTE - 30_000 && full.retryAfterMs <= MINUTE)
    t.match(await limiter.peek(who, ['heavy'], 2), { allowed: true }, 'a cheaper request fits')
    t.match(await limiter.peek({ ...who, operation: 'import' }, ['heavy']), { allowed: true }, 'another budget')
    t.match(await limiter.peek({ ...who, principal: user('ada', ['admin']) }, ['user']), {
      quotas: [{ limit: 200, remaining: 200 }]
    })
    t.match((await limiter.check(who, ['heavy'], 2)).allowed, true, 'exactly what was left')
  })

  t.test(`${kind}: reset begins anew, also where the refusal was known`, async t => {
    const app = await build(t, { store: await storeOf(t) })
    for (const status of [200, 200, 429, 429]) t.equal(await ask(app, '192.0.2.1'), status)
    await t.rejects(app.limiter.reset({ address: '192.0.2.1' }, ['nothing']), {
      code: 'MARTY_CORE_RULE_INVALID',
      message: /limiter\.reset\(\)/
    })
    await app.limiter.reset({ address: '192.0.2.2' }, ['address'])
    t.equal(await ask(app, '192.0.2.1'), 429, 'another one')
    await app.limiter.reset({ address: '::ffff:192.0.2.1' }, ['address', 'user'])
    for (const status of [200, 200, 429]) t.equal(await ask(app, '192.0.2.1'), status)
  })

  t.test(`${kind}: top tells who is refused, the most refused first`, async t => {
    const app = await build(t, { store: await storeOf(t) })
    t.strictSame(await app.limiter.top(), [])
    for (let i = 0; i < 5; i++) await ask(app, '192.0.2.1')
    for (let i = 0; i < 8; i++) await ask(app, '2001:db8::1')
    for (let i = 0; i < 4; i++) await app.limiter.check({ address: null, principal: user('ada:{1}\n') }, ['user'])
    await ask(app, '192.0.2.3')
    await until(
      async () => (await app.limiter.top()).reduce((sum, { refusals }) => sum + refusals, 0) === 10,
      'every refusal to be known'
    )
    const top = await app.limiter.top()
    t.match(top, [
      { key: 'address:address:2001:db8:0:0::/64', rule: 'address', refusals: 6 },
      { key: 'address:address:192.0.2.1', rule: 'address', refusals: 3 },
      { key: 'user:user:8:ada:{1}\n', rule: 'user', refusals: 1 }
    ])
    t.equal(top.length, 3)
    for (const { retryAfterMs } of top) t.ok(retryAfterMs > 0 && retryAfterMs <= MINUTE)
    t.strictSame(
      (await app.limiter.top(1)).map(({ rule }) => rule),
      ['address']
    )
    await app.limiter.reset({ address: '2001:db8::2' }, ['address'])
    t.strictSame(
      (await app.limiter.top()).map(({ key }) => key),
      ['address:address:192.0.2.1', 'user:user:8:ada:{1}\n']
    )
  })
}

t.test('memory: who was refused a minute ago is no longer, and no more than a thousand are kept', async t => {
  const clock = { ms: 0 }
  const app = await build(t, {
    rules: { short: { limit: 1, windowMs: 1000, by: 'address' } },
    apply: { http: ['short'] },
    now: () => clock.ms
  })
  const { limiter } = app
  const refuse = async (address: string): Promise<void> => {
    for (let i = 0; i < 2; i++) await limiter.check({ address }, ['short'])
  }
  await refuse('192.0.2.1')
  clock.ms += 500
  t.strictSame(await limiter.top(), [{ key: 'short:address:192.0.2.1', rule: 'short', refusals: 1, retryAfterMs: 500 }])
  clock.ms += 60_000
  await refuse('192.0.2.1')
  t.match(await limiter.top(), [{ refusals: 2, retryAfterMs: 1000 }], 'still the same story')
  clock.ms += 61_001
  t.strictSame(await limiter.top(), [])
  await refuse('192.0.2.1')
  t.match(await limiter.top(), [{ refusals: 1 }], 'a new one')
  for (let i = 0; i < 1000; i++) await refuse(`10.0.${i >> 8}.${i & 255}`)
  const top = await limiter.top(5000)
  t.ok(top.length >= 500 && top.length <= 1000, `${top.length} are kept`)
  t.notOk(
    top.some(({ key }) => key.endsWith('192.0.2.1')),
    'the first one had to go'
  )
  for (let i = 0; i < 5000; i++) {
    await refuse(`10.1.${i >> 8}.${i & 255}`)
    if (i % 100 === 0) await refuse('192.0.2.9')
  }
  t.match(
    await limiter.top(1),
    [{ key: 'short:address:192.0.2.9', refusals: 99 }],
    'who does not stop is not lost in the crowd'
  )
})

t.test('metrics: every decision is counted for the rules that made it', async t => {
  const store = { redis: await connect(t), prefix: fresh(), deadlineMs: 2_000 }
  const app = await build(t, { store })
  const { limiter } = app
  const none = { allowed: 0, denied: 0, known_denied: 0, degraded_allowed: 0, degraded_denied: 0, error: 0 }
  t.strictSame(limiter.metrics(), { address: none, user: none, heavy: none })
  for (let i = 0; i < 5; i++) await ask(app, '192.0.2.1')
  for (let i = 0; i < 4; i++) {
    await limiter.check({ address: '192.0.2.9', principal: user('ada'), operation: 'export' }, ['user', 'heavy'], 3)
  }
  const metrics: LimitMetrics = limiter.metrics()
  t.strictSame(metrics, {
    address: { ...none, allowed: 2, known_denied: 3 },
    user: { ...none, allowed: 1, known_denied: 3 },
    heavy: { ...none, allowed: 1 }
  })
  await limiter.peek({ address: '192.0.2.1' }, ['address'])
  t.strictSame(limiter.metrics(), metrics, 'looking is no decision')

  const lines = limiter.prometheus().split('\n')
  t.match(lines[0], /^# HELP marty_rate_limit_decisions_total \S/)
  t.equal(lines[1], '# TYPE marty_rate_limit_decisions_total counter')
  t.equal(lines.at(-1), '')
  t.ok(lines.includes('marty_rate_limit_decisions_total{rule="address",outcome="known_denied"} 3'))
  t.equal(lines.length, 2 + 3 * 6 + 1)
  for (const line of lines.slice(2, -1)) {
    t.match(line, /^marty_rate_limit_decisions_total\{rule="\w+",outcome="\w+"\} \d+$/)
  }
})

t.test('metrics: what is decided while Redis is gone', async t => {
  const gone = async (): Promise<unknown> => {
    throw new Error('gone')
  }
  const redis = { evalsha: gone, eval: gone, callBuffer: gone }
  const who = { address: '192.0.2.1' }
  const counted = async (onFailure: 'local' | 'open' | 'closed', calls: number): Promise<unknown> => {
    const { limiter } = await build(t, { store: { redis, onFailure, instances: 1 } })
    for (let i = 0; i < calls; i++) {
      await limiter.check(who, ['address']).catch(error => {
        t.match(error, { statusCode: 503 })
      })
    }
    await t.rejects(limiter.top(), { code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE', statusCode: 503 })
    await t.rejects(limiter.peek(who, ['address']), { code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE' })
    await t.rejects(limiter.reset(who, ['address']), { code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE' })
    return limiter.metrics()['address']
  }
  t.match(await counted('local', 5), { allowed: 0, degraded_allowed: 2, degraded_denied: 3, error: 0 })
  t.match(await counted('open', 5), { allowed: 0, degraded_allowed: 5, degraded_denied: 0, error: 0 })
  t.match(
    await counted('closed', 5),
    { allowed: 0, degraded_allowed: 0, degraded_denied: 0, error: 5 },
    'also once the breaker is open'
  )
})

t.test(
  'a reset reaches the memory of the other processes, without a question of theirs on the way of requests',
  async t => {
    const prefix = fresh()
    const apps = [
      await build(t, { store: { redis: await connect(t), prefix, deadlineMs: 2_000 } }),
      await build(t, { store: { redis: await connect(t), prefix, deadlineMs: 2_000 } })
    ] as const
    for (const status of [200, 200, 429]) t.equal(await ask(apps[0], '192.0.2.1'), status)
    t.equal(await ask(apps[1], '192.0.2.1'), 429)
    t.equal(await ask(apps[1], '192.0.2.1'), 429)
    t.match(apps[1].limiter.metrics(), { address: { denied: 1, known_denied: 1 } })
    const admin = createLimitAdmin({ redis: await connect(t), prefix })
    t.strictSame(await admin.reset({ rule: 'address', address: '192.0.2.1' }), {
      key: 'address:address:192.0.2.1',
      wasUsed: true
    })
    await until(async () => (await ask(apps[0], '192.0.2.1')) === 200, 'the first process to forget')
    await until(async () => (await ask(apps[1], '192.0.2.1')) === 200, 'the second process to forget')
    t.equal(await ask(apps[0], '192.0.2.1'), 429, 'and the limit is shared as before')
    await until(async () => {
      await ask(apps[0], '192.0.2.1')
      return (await admin.top()).length === 1
    }, 'the new refusal to be told of')
  }
)

t.test(
  'a reset of a rule reaches those whom its burst refused, and that of a burst those whom its rule did',
  async t => {
    const prefix = fresh()
    const both: RateLimitOptions['rules'] = {
      short: { limit: 9, windowMs: MINUTE, by: 'address', burst: { limit: 1, windowMs: MINUTE / 2 } },
      long: { limit: 1, windowMs: MINUTE, by: 'address', burst: { limit: 1, windowMs: 1 } }
    }
    const app = await build(t, {
      rules: both,
      apply: {},
      store: { redis: await connect(t), prefix, deadlineMs: 2_000 }
    })
    const other = await build(t, {
      rules: both,
      apply: {},
      store: { redis: await connect(t), prefix, deadlineMs: 2_000 }
    })
    const admin = createLimitAdmin({ redis: await connect(t), prefix })
    for (const [rule, reset] of [
      ['short', 'short'],
      ['long', 'long.burst']
    ] as const) {
      const allowed = async (by: FastifyInstance): Promise<boolean> =>
        (await by.limiter.check({ address: '192.0.2.1' }, [rule])).allowed
      t.equal(await allowed(app), true)
      t.equal(await allowed(other), false)
      await until(async () => (await admin.top()).length > 0, 'the refusal to be told of')
      t.match(await admin.reset({ rule: reset, address: '192.0.2.1' }), { wasUsed: true })
      t.same(await admin.top(), [])
      await until(async () => await allowed(other), 'the other process to forget', 20_000)
    }
  }
)

t.test('an attack by ten thousand addresses is one small write a second', async t => {
  const prefix = fresh()
  const redis = await connect(t)
  const app = await build(t, {
    store: { redis, prefix, deadlineMs: 2_000, instances: 1 },
    rules: { all: { limit: 1, windowMs: MINUTE, by: 'address' } },
    apply: { http: [] }
  })
  const calls = async (): Promise<number> =>
    Number(/cmdstat_zadd:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0)
  const before = await calls()
  const started = Date.now()
  for (let i = 0; i < 10_000; i += 100) {
    await Promise.all(
      Array.from(
        { length: 200 },
        async (_, j) =>
          await app.limiter.check({ address: `10.1.${(i + (j % 100)) >> 8}.${(i + (j % 100)) & 255}` }, ['all'])
      )
    )
  }
  await until(async () => (await calls()) > before, 'the first report')
  const seconds = Math.ceil((Date.now() - started) / 1000) + 1
  t.ok((await calls()) - before <= 100 * seconds, `${(await calls()) - before} entries in ${seconds} s`)
  t.equal((await app.limiter.top(10_000)).length <= 1000, true)
})

t.test('Redis that comes late, goes and comes again is told what it missed', async t => {
  const port = await freePort()
  const connection = openRedis({ url: `redis://127.0.0.1:${port}`, commandTimeoutMs: 2_000 })
  t.teardown(() => connection.close())
  const app = await build(t, { store: { redis: connection.client, instances: 1 } })
  for (let i = 0; i < 3; i++) {
    t.match(await app.limiter.check({ address: '192.0.2.1' }, ['address']), { degraded: true, allowed: i < 2 })
  }
  for (let round = 0; round < 2; round++) {
    const late = await startRedis(port)
    t.teardown(() => late.stop())
    await connection.ready(10_000)
    await until(
      async () => !(await app.limiter.check({ address: `192.0.2.${2 + round}` }, ['address'])).degraded,
      'the breaker to close'
    )
    if (round === 0) {
      await until(async () => (await connection.client.hlen('{marty:limit}:#rules')) === 3, 'the rules to be published')
    }
    for (let i = 0; i < 3; i++) await app.limiter.check({ address: `192.0.2.${2 + round}` }, ['address'])
    await until(
      async () => (await app.limiter.top()).some(({ key }) => key === `address:address:192.0.2.${2 + round}`),
      'the refusal to be told of'
    )
    await late.stop()
    await until(() => connection.client.status !== 'ready', 'the loss to be known')
    await app.limiter.check({ address: '192.0.2.9' }, ['address'])
    await t.rejects(app.limiter.top(), { code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE' })
  }
})

t.test('closing the application leaves no timer and no client closed', async t => {
  const redis = await connect(t)
  const app = await build(t, { store: { redis, prefix: fresh() } })
  for (let i = 0; i < 4; i++) await ask(app, '192.0.2.1')
  await app.close()
  t.equal(await redis.ping(), 'PONG')
})

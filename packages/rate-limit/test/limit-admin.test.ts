import t from 'tap'
import Fastify from 'fastify'
import { ANONYMOUS } from '@marty/core'
import { createLimitAdmin, createRedisStore, rateLimit, type BudgetName } from '@marty/rate-limit'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'

const HOUR = 3_600_000
const server = await startRedis(await freePort())
t.teardown(() => server.stop())
const connection = openRedis({ url: `redis://127.0.0.1:${server.port}`, commandTimeoutMs: 2_000 })
t.teardown(() => connection.close())
await connection.ready(10_000)
const redis = connection.client
const admin = createLimitAdmin({ redis, deadlineMs: 1_000 })

const app = Fastify()
t.teardown(() => app.close())
await app.register(rateLimit, {
  rules: {
    login: { limit: 2, windowMs: HOUR, by: 'address' },
    calls: { limit: 4, windowMs: HOUR, by: 'principal' },
    tiered: { limit: { default: 5, admin: 500 }, windowMs: HOUR, by: 'principal' },
    each: { limit: 3, windowMs: HOUR, by: 'address+operation' },
    mine: { limit: 3, windowMs: HOUR, by: 'principal+operation' },
    tenant: { limit: 5, windowMs: HOUR, by: 'tenant' },
    key: { limit: 5, windowMs: HOUR, by: 'apiKey' },
    guess: { limit: 5, windowMs: HOUR, by: 'account+address', burst: { limit: 2, windowMs: 60_000 } },
    upload: { limit: 1000, windowMs: HOUR, by: 'global', cost: 400 }
  },
  store: { redis, deadlineMs: 1_000 }
})
await app.ready()
await until(async () => (await redis.exists('{marty:limit}:#rules')) === 1, 'the rules to be published')
const principal = { kind: 'user', id: 'ada' } as const
const ada = { ...ANONYMOUS, ...principal }

t.test('what names no budget is refused by name', async t => {
  const cases: ReadonlyArray<readonly [string | BudgetName, RegExp]> = [
    ['login', /"login" is no key of a budget; expected RULE:WHO/],
    ['login:', /no key/],
    [':address:192.0.2.1', /no key/],
    ['{evil}:x', /no key/],
    [{ rule: 'login' }, /^rule "login" counts by address: name the address$/],
    [{ rule: 'login', address: 'somewhere' }, /"somewhere" is no address/],
    [{ rule: 'login', address: '192.0.2.1', principal }, /no principal belongs to it/],
    [{ rule: 'login', address: '192.0.2.1', operation: 'x' }, /no operation belongs to it/],
    [{ rule: 'calls' }, /name the principal, or the address of a caller without an identity/],
    [{ rule: 'calls', principal, address: '192.0.2.1' }, /name the principal, or/],
    [{ rule: 'mine', principal }, /name the operation/],
    [{ rule: 'tenant' }, /name the tenant, or the principal or address of a caller without one/],
    [{ rule: 'tenant', tenant: 'acme', principal }, /name the tenant, or/],
    [{ rule: 'key', address: '192.0.2.1' }, /name the principal of the key/],
    [{ rule: 'guess', address: '192.0.2.1' }, /name the account/],
    [{ rule: 'guess', account: 'ada' }, /name the address/],
    [{ rule: 'calls', principal, tenant: 'acme' }, /no tenant belongs to it/],
    [{ rule: 'upload', address: '192.0.2.1' }, /no address belongs to it/]
  ]
  for (const [budget, message] of cases) {
    for (const ask of [admin.show, admin.reset]) {
      await t.rejects(async () => await ask(budget), {
        code: 'MARTY_RATE_LIMIT_BUDGET_INVALID',
        statusCode: 400,
        message
      })
    }
  }
  for (const [rule, message] of [
    ['logn', /no service uses a rule "logn" under the prefix marty:limit; did you mean "login"\?/],
    ['quite another', /known are calls, each, guess, guess\.burst, key, login, mine, tenant, tiered, upload/]
  ] as const) {
    await t.rejects(admin.show({ rule }), { code: 'MARTY_RATE_LIMIT_RULE_UNKNOWN', statusCode: 404, message })
  }
  await t.rejects(createLimitAdmin({ redis, prefix: 'elsewhere' }).show({ rule: 'login' }), {
    message: /known are none/
  })
})

t.test('a budget in words and by its key', async t => {
  const unused = { limit: 2, windowMs: HOUR, used: 0, remaining: 2, resetMs: 0, retryAfterMs: 0 }
  t.strictSame(await admin.show({ rule: 'login', address: '192.0.2.1' }), {
    key: 'login:address:192.0.2.1',
    rule: 'login',
    ...unused
  })
  for (let i = 0; i < 3; i++) await app.limiter.check({ address: '::ffff:192.0.2.1' }, ['login'])
  const state = await admin.show({ rule: 'login', address: '192.0.2.1' })
  t.match(state, { used: 2, remaining: 0 })
  t.ok(state.retryAfterMs! > HOUR - 60_000 && state.retryAfterMs! <= HOUR)
  t.equal((await admin.show(state.key)).used, 2)
  t.match(await admin.show({ rule: 'login', address: '2001:db8::7' }), {
    key: 'login:address:2001:db8:0:0::/64',
    used: 0
  })
  t.match(
    await admin.show({ rule: 'login', address: 'unknown' }),
    { key: 'login:address:unknown' },
    'where callers without an address count'
  )

  await app.limiter.check({ address: null, principal: ada, operation: 'GET /cameras/:id' }, ['calls', 'mine', 'each'])
  t.match(await admin.show({ rule: 'calls', principal }), { key: 'calls:user:3:ada', used: 1, remaining: 3 })
  t.match(await admin.show({ rule: 'calls', principal: { ...principal, kind: 'service' } }), { used: 0 })
  t.match(await admin.show({ rule: 'calls', address: '192.0.2.1' }), { key: 'calls:address:192.0.2.1', used: 0 })
  t.match(await admin.show({ rule: 'mine', principal, operation: 'GET /cameras/:id' }), { used: 1, limit: 3 })
  t.match(await admin.show({ rule: 'each', address: 'unknown', operation: 'GET /cameras/:id' }), { used: 1 })
})

t.test('tenants, keys and accounts', async t => {
  await app.limiter.check({ address: '192.0.2.1', principal: { ...ada, claims: { tenant: 'acme' } } }, ['tenant'])
  await app.limiter.check({ address: '192.0.2.1', principal: { ...ada, kind: 'key', id: 'k1' } }, ['key', 'tenant'])
  await app.limiter.check({ address: '192.0.2.1', account: 'ada' }, ['guess'])
  t.match(await admin.show({ rule: 'tenant', tenant: 'acme' }), { used: 1, limit: 5 })
  t.match(
    await admin.show({ rule: 'tenant', principal: { kind: 'key', id: 'k1' } }),
    { used: 1 },
    'whoever has no tenant is one alone'
  )
  t.match(await admin.show({ rule: 'key', principal: { kind: 'key', id: 'k1' } }), { used: 1 })
  t.match(await admin.show({ rule: 'guess', account: 'ada', address: '192.0.2.1' }), { used: 1, limit: 5 })
  t.match(await admin.show({ rule: 'guess.burst', account: 'ada', address: '192.0.2.1' }), {
    used: 1,
    limit: 2,
    windowMs: 60_000
  })
  t.same(await admin.reset({ rule: 'guess.burst', account: 'ada', address: '192.0.2.1' }), {
    key: 'guess.burst:account:3:ada 192.0.2.1',
    wasUsed: true
  })
  t.match(
    await admin.show({ rule: 'guess', account: 'ada', address: '192.0.2.1' }),
    { used: 0 },
    'the two share one window'
  )
  t.match(await admin.show({ rule: 'guess', account: 'bob', address: '192.0.2.1' }), { used: 0 })
})

t.test('a limit that depends on roles is known with the roles', async t => {
  await app.limiter.check({ address: null, principal: { ...ada, roles: ['admin'] } }, ['tiered'])
  t.match(await admin.show({ rule: 'tiered', principal }), {
    limit: null,
    remaining: null,
    retryAfterMs: null,
    windowMs: HOUR,
    used: 1
  })
  t.match(
    await admin.show({ rule: 'tiered', principal: { ...principal, roles: ['viewer', 'admin'] } }),
    { limit: 500, remaining: 499, used: 1 },
    'kept as a list'
  )
  t.match(await admin.show({ rule: 'tiered', principal: { ...principal, roles: [] } }), { limit: 5, remaining: 4 })
  t.match(await admin.show('tiered:user:3:ada'), { limit: null, used: 1 })
})

t.test('large limits are lists, and costs are units', async t => {
  for (let i = 0; i < 2; i++) await app.limiter.check({ address: null }, ['upload'])
  const state = await admin.show({ rule: 'upload' })
  t.match(state, { key: 'upload:global', limit: 1000, used: 800, remaining: 200 })
  t.ok(state.retryAfterMs! > 0)
  t.strictSame(await admin.reset({ rule: 'upload' }), { key: 'upload:global', wasUsed: true })
  t.match(await admin.show({ rule: 'upload' }), { used: 0, retryAfterMs: 0 })
})

t.test('only what is in the window counts', async t => {
  const store = createRedisStore({ redis })
  for (const limit of [3, 300]) {
    const charge = { rule: `brief${limit}`, subject: 'global', limit, windowMs: 20, cost: 1 }
    await redis.hset(
      '{marty:limit}:#rules',
      charge.rule,
      JSON.stringify({ limit, windowMs: 20, by: 'global', cost: 1 })
    )
    await store.take([charge])
    const [key = ''] = await redis.keys(`*:${charge.rule}:*`)
    // What says so is the window, not the expiry of the key.
    await redis.persist(key)
    await until(async () => (await admin.show({ rule: charge.rule })).used === 0, 'the unit to leave')
    t.equal(await redis.del(key), 1)
  }
})

t.test('a rule that nobody has published: its budgets are known by their keys', async t => {
  await createRedisStore({ redis }).take([
    { rule: 'lone', subject: 'address:192.0.2.1', limit: 3, windowMs: HOUR, cost: 2 }
  ])
  t.strictSame(await admin.show('lone:address:192.0.2.1'), {
    key: 'lone:address:192.0.2.1',
    rule: 'lone',
    limit: null,
    windowMs: null,
    used: 2,
    remaining: null,
    resetMs: null,
    retryAfterMs: null
  })
  t.strictSame(await admin.reset('lone:address:192.0.2.1'), { key: 'lone:address:192.0.2.1', wasUsed: true })
  t.strictSame(await admin.reset('lone:address:192.0.2.1'), { key: 'lone:address:192.0.2.1', wasUsed: false })
})

t.test('every key expires, and none holds what a client said', async t => {
  const name = 'ada {evil}'.repeat(100)
  for (let i = 0; i < 5; i++) await app.limiter.check({ address: null, principal: { ...ada, id: name } }, ['calls'])
  await until(
    async () => (await admin.top()).some(({ key }) => key.startsWith('calls:sha256:')),
    'the refusal to be told of'
  )
  const { key } = (await admin.top()).find(({ key }) => key.startsWith('calls:sha256:'))!
  t.ok(key.length < 80)
  t.match(await admin.show(key), { used: 4 })
  t.match(await admin.show({ rule: 'calls', principal: { kind: 'user', id: name } }), { key, used: 4 })
  await admin.reset(key)
  for (const key of await redis.keys('*')) {
    t.ok((await redis.pttl(key)) > 0, key)
    t.match(key, /^\{marty:limit\}:/)
    t.notMatch(key, /evil|192\.0\.2/)
  }
})

t.test('Redis that freezes or goes is a 503 within the deadline', async t => {
  const quick = createLimitAdmin({ redis, deadlineMs: 50 })
  const unavailable = { code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE', statusCode: 503 }
  const all = async (): Promise<void> => {
    await Promise.all([
      t.rejects(quick.show({ rule: 'login', address: '192.0.2.1' }), unavailable),
      t.rejects(quick.show('login:address:192.0.2.1'), unavailable),
      t.rejects(quick.reset('login:address:192.0.2.1'), unavailable),
      t.rejects(quick.top(), unavailable)
    ])
  }
  server.child.kill('SIGSTOP')
  await all()
  server.child.kill('SIGKILL')
  await until(() => redis.status !== 'ready', 'the client to notice')
  await all()
})

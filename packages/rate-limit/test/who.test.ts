import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { ANONYMOUS, type Principal } from '@marty/core'
import { createLimitAdmin, rateLimit, type RateLimitOptions, type Who } from '@marty/rate-limit'
import { openRedis } from '@marty/redis'
import { freePort, startRedis } from '@marty/testing'

const MINUTE_MS = 60_000
const rules: RateLimitOptions['rules'] = {
  client: { limit: 3, windowMs: MINUTE_MS, by: 'address', burst: { limit: 3, windowMs: 1_000 } },
  login: { limit: 3, windowMs: MINUTE_MS, by: 'account+address' },
  user: { limit: 200, windowMs: MINUTE_MS, by: 'principal' },
  export: { limit: 5, windowMs: MINUTE_MS, by: 'principal+operation' },
  short: { limit: 1, windowMs: 200, by: 'address' }
}
const server = await startRedis(await freePort())
t.teardown(() => server.stop())
const prefixes = (function * () {
  for (let i = 0; ; i++) yield `who:${i}`
})()

async function build (
  t: Test,
  kind: 'memory' | 'redis',
  options: Partial<RateLimitOptions> = {}
): Promise<FastifyInstance> {
  const app = Fastify()
  let store: RateLimitOptions['store'] = 'memory'
  if (kind === 'redis') {
    const connection = openRedis({ url: `redis://127.0.0.1:${server.port}`, commandTimeoutMs: 5_000 })
    t.teardown(() => connection.close())
    await connection.ready(10_000)
    store = { redis: connection.client, prefix: prefixes.next().value!, deadlineMs: 5_000 }
  }
  t.teardown(() => app.close())
  await app.register(rateLimit, { rules, store, ...options })
  return app
}

t.test('who is meant must be readable, or all such callers would share one budget', async t => {
  const { limiter } = await build(t, 'memory')
  const wrong: ReadonlyArray<readonly [unknown, readonly string[], RegExp]> = [
    [{ addres: '192.0.2.1' }, ['client'], /limiter\.check\(\) does not know "addres"; did you mean "address"/],
    [{ address: '192.0.2.1', ip: '192.0.2.1' }, ['client'], /does not know "ip"/],
    [{ address: '203.0.113' }, ['client'], /needs an IP address or null as address, not "203\.0\.113"/],
    [{ address: 5 }, ['client'], /needs an IP address or null/],
    [{}, ['client'], /needs an address \(null where there is none\), by which the rule "client" counts/],
    [{}, ['user'], /needs a principal, or the address of a caller without an identity/],
    [{ address: null, principal: { id: 'ada' } }, ['user'], /needs a principal with kind, id, roles and claims/],
    [{ address: null, principal: { kind: 'user', id: 'ada', claims: {} } }, ['user'], /needs a principal with/],
    [{ address: null, principal: ANONYMOUS }, ['export'], /needs an operation, by which the rule "export" counts/],
    [{ address: '192.0.2.1' }, ['login'], /needs an account/],
    [{ address: '192.0.2.1', account: '' }, ['login'], /needs an account/],
    [undefined, ['client'], /needs to know who is meant/]
  ]
  for (const [who, names, message] of wrong) {
    await t.rejects(
      limiter.check(who as Who, names),
      { code: 'MARTY_CORE_RULE_INVALID', message },
      JSON.stringify(who) ?? 'nothing'
    )
  }
  t.match(
    await limiter.check({ address: undefined as unknown as null }, ['client']),
    { allowed: true },
    'a Unix socket has no address'
  )
  t.match(await limiter.check({ address: '[2001:db8::1]:443' }, ['client']), { allowed: true })
})

for (const kind of ['memory', 'redis'] as const) {
  t.test(`${kind}: what costs more than a limit is refused, never fits, and takes nothing`, async t => {
    const { limiter } = await build(t, kind)
    const who = { address: '192.0.2.1', principal: { ...ANONYMOUS, kind: 'user', id: 'ada' } as Principal }
    t.match(await limiter.check(who, ['client', 'user'], 4), {
      allowed: false,
      retryAfterMs: Infinity,
      violated: ['client', 'client.burst']
    })
    const refusal = await limiter.enforce(who, ['client'], 4).then(
      () => null,
      error => error
    )
    t.match(refusal, {
      code: 'MARTY_RATE_LIMIT_EXCEEDED',
      statusCode: 429,
      message: /costs more than its limit \(client, client\.burst\): it never fits/
    })
    t.notOk('retry-after' in refusal.headers || 'retry_after_ms' in refusal.data)
    t.match(await limiter.peek(who, ['user']), { quotas: [{ remaining: 200 }] })
    t.match(await limiter.check(who, ['client'], 3), { allowed: true })
  })

  t.test(`${kind}: enforce throws the whole refusal`, async t => {
    const { limiter } = await build(t, kind)
    for (let i = 0; i < 3; i++) await limiter.enforce({ address: '192.0.2.1' }, ['client'])
    const refusal = await limiter.enforce({ address: '192.0.2.1' }, ['client']).then(
      () => null,
      error => error
    )
    t.match(refusal, {
      code: 'MARTY_RATE_LIMIT_EXCEEDED',
      headers: { 'retry-after': /^\d+$/, ratelimit: /^"client";r=0;t=\d+$/, 'cache-control': 'no-store' }
    })
    t.ok(refusal.data.retry_after_ms > 0 && refusal.data.retry_after_ms <= MINUTE_MS)
  })

  t.test(`${kind}: only what is not taken back counts, and meanwhile it limits`, async t => {
    const { limiter } = await build(t, kind)
    const who = { address: '192.0.2.1', account: 'alice' }
    for (let i = 0; i < 10; i++) t.equal(await limiter.refund(await limiter.enforce(who, ['login', 'client'])), true)
    const guesses = await Promise.all(Array.from({ length: 10 }, async () => await limiter.check(who, ['login'])))
    t.equal(guesses.filter(({ allowed }) => allowed).length, 3, 'guesses at the same time are bounded')
    t.match(await limiter.check(who, ['login']), { allowed: false })
    t.equal(await limiter.refund(guesses.find(({ allowed }) => allowed)!), true)
    t.match(await limiter.check(who, ['login']), { allowed: true }, 'one is free again, here at once')
    t.match(await limiter.check(who, ['login']), { allowed: false })
    t.match(await limiter.peek(who, ['client']), { quotas: [{ remaining: 3 }, { remaining: 3 }] })
  })

  t.test(`${kind}: nothing is taken back twice, for others, or after the window`, async t => {
    const { limiter } = await build(t, kind)
    const who = { address: '192.0.2.1', account: 'alice' }
    const [first] = [
      await limiter.check(who, ['login']),
      await limiter.check(who, ['login']),
      await limiter.check(who, ['login'])
    ]
    const refused = await limiter.check(who, ['login'])
    t.same([await limiter.refund(refused), await limiter.refund({ ...first! })], [false, false], 'a refusal, a copy')
    t.same(await Promise.all([limiter.refund(first!), limiter.refund(first!)]), [true, false])
    t.match(await limiter.peek(who, ['login']), { quotas: [{ remaining: 1 }] })

    const old = await limiter.check(who, ['short'])
    let again = await limiter.check(who, ['short'])
    while (!again.allowed) again = await limiter.check(who, ['short'])
    t.equal(await limiter.refund(old), false, 'it has left the window by itself')
    t.match(await limiter.peek({ ...who }, ['login']), { allowed: true })
  })

  t.test(`${kind}: large limits, whose windows are lists`, async t => {
    const { limiter } = await build(t, kind)
    const who = { address: null, principal: { ...ANONYMOUS, kind: 'user', id: 'ada' } as Principal }
    const charged = []
    for (let i = 0; i < 5; i++) charged.push(await limiter.check(who, ['user'], 40))
    t.match(await limiter.check(who, ['user'], 40), { allowed: false })
    for (const decision of charged) t.equal(await limiter.refund(decision), true)
    t.match(await limiter.peek(who, ['user']), { quotas: [{ remaining: 200, resetMs: 0 }] })
  })

  t.test(`${kind}: config.rateLimit is seen by operators, and limits: false exempts from it`, async t => {
    const app = await build(t, kind, { fastifyRateLimit: { max: 2, timeWindow: '1 minute' } })
    app.get('/', async () => 'ok')
    app.get('/free', { config: { security: { public: true, limits: false } } }, async () => 'ok')
    const statuses = async (url: string, times: number): Promise<number[]> => {
      const found = []
      for (let i = 0; i < times; i++) found.push((await app.inject(url)).statusCode)
      return found
    }
    t.same(await statuses('/', 4), [200, 200, 429, 429])
    t.same(await statuses('/free', 4), [200, 200, 200, 200])
    t.match(app.limiter.metrics()['@fastify/rate-limit'], { allowed: 2 })
    const { denied, known_denied: known } = app.limiter.metrics()['@fastify/rate-limit']!
    t.equal(denied + known, 2)
    t.match(app.limiter.prometheus(), 'rule="@fastify/rate-limit",outcome="allowed"} 2')
    let top = await app.limiter.top()
    // With Redis a process reports within about a second.
    while (top.length === 0) top = await app.limiter.top()
    t.match(top, [{ rule: '@fastify/rate-limit', key: /127\.0\.0\.1$/ }])
    await app.limiter.reset(top[0]!.key)
    t.same(await statuses('/', 1), [200], 'a budget is reset by its key')
    await t.rejects(app.limiter.reset('nonsense'), { code: 'MARTY_RATE_LIMIT_BUDGET_INVALID' })
  })
}

t.test('a route that is exempt and limited does not start', async t => {
  const app = await build(t, 'memory', { fastifyRateLimit: true })
  t.throws(
    () =>
      app.get('/', { config: { rateLimit: { max: 5 }, security: { public: true, limits: false } } }, async () => 'ok'),
    {
      code: 'MARTY_RATE_LIMIT_OPT_INVALID',
      message: /route GET \/: config\.rateLimit limits a route whose config\.security says limits: false/
    }
  )
})

t.test('marty limits: a budget of config.rateLimit is shown and reset by its key', async t => {
  const app = await build(t, 'redis', { fastifyRateLimit: { max: 2, timeWindow: '1 minute' } })
  app.get('/', async () => 'ok')
  for (let i = 0; i < 3; i++) await app.inject('/')
  const connection = openRedis({ url: `redis://127.0.0.1:${server.port}`, commandTimeoutMs: 5_000 })
  t.teardown(() => connection.close())
  await connection.ready(10_000)
  // The last prefix that was given out is this application's.
  const admin = createLimitAdmin({
    redis: connection.client,
    prefix: `who:${Number(prefixes.next().value!.slice(4)) - 1}`
  })
  let [refused] = await admin.top()
  while (refused === undefined) [refused] = await admin.top()
  t.match(await admin.show(refused.key), { rule: '@fastify/rate-limit', used: 2, windowMs: MINUTE_MS, limit: null })
  t.match(await admin.reset(refused.key), { wasUsed: true })
  t.match(await admin.show(refused.key), { used: 0 })
})

t.test(
  'refusals are problem documents without help of the application, and its own error handler has the last word',
  async t => {
    const refusals = async (
      app: FastifyInstance
    ): Promise<
      Array<{ statusCode: number; headers: Record<string, unknown>; json: () => Record<string, unknown> }>
    > => {
      app.get('/by-hand', async request => await app.limiter.enforce({ address: request.ip }, ['short']))
      app.get('/by-config', { config: { rateLimit: { max: 1 } } }, async () => 'ok')
      app.get('/broken', async () => {
        throw new Error('secret')
      })
      for (const url of ['/by-hand', '/by-config']) await app.inject(url)
      return await Promise.all(['/by-hand', '/by-config', '/broken'].map(async url => await app.inject(url)))
    }
    const rare = { short: { limit: 1, windowMs: MINUTE_MS, by: 'address' } } as const
    const plain = await build(t, 'memory', { rules: rare, fastifyRateLimit: { global: false } })
    const [byHand, byConfig, broken] = await refusals(plain)
    for (const refused of [byHand!, byConfig!]) {
      t.equal(refused.statusCode, 429)
      t.match(refused.headers, { 'content-type': /^application\/problem\+json/, 'retry-after': /^\d+$/ })
      t.match(refused.json(), {
        code: 'MARTY_RATE_LIMIT_EXCEEDED',
        status: 429,
        instance: /^\/by-/,
        retry_after_ms: Number
      })
    }
    t.match(broken!.json(), { statusCode: 500, error: 'Internal Server Error' }, "other errors stay Fastify's")

    const own = await build(t, 'memory', { rules: rare, fastifyRateLimit: { global: false } })
    own.setErrorHandler((error: Error & { code?: string }, _request, reply) =>
      reply.code(418).send({ mine: error.code ?? 'none' })
    )
    const answers = await refusals(own)
    t.same(
      answers.map(answer => [answer.statusCode, answer.json()]),
      [
        [418, { mine: 'MARTY_RATE_LIMIT_EXCEEDED' }],
        [418, { mine: 'MARTY_RATE_LIMIT_EXCEEDED' }],
        [418, { mine: 'none' }]
      ]
    )
  }
)

t.test('what Redis did not take back is said', async t => {
  const own = await startRedis(await freePort())
  const connection = openRedis({ url: `redis://127.0.0.1:${own.port}`, commandTimeoutMs: 5_000 })
  t.teardown(() => connection.close())
  await connection.ready(10_000)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rateLimit, { rules, store: { redis: connection.client, deadlineMs: 5_000 } })
  const decision = await app.limiter.enforce({ address: '192.0.2.1', account: 'alice' }, ['login'])
  await own.stop()
  t.equal(await app.limiter.refund(decision), false)
})

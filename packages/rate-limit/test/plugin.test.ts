import t, { type Test } from 'tap'
import type { IncomingMessage } from 'node:http'
import Fastify, { type FastifyInstance, type InjectOptions } from 'fastify'
import {
  ANONYMOUS,
  createCall,
  CredentialInvalid,
  defineError,
  problemErrorHandler,
  useGuard,
  type Call,
  type MartyError,
  type Principal,
  type SecurityEvent
} from '@marty/core'
import { rateLimit, type RateLimitOptions } from '@marty/rate-limit'

const StoreGone = defineError({ name: 'StoreGone', code: 'TEST_STORE_GONE', statusCode: 503, message: 'gone' })
const OtherSite = defineError({
  name: 'OtherSite',
  code: 'TEST_OTHER_SITE',
  statusCode: 403,
  message: 'from elsewhere'
})

const user = (id: string, roles: string[] = ['viewer']): Principal => ({
  ...ANONYMOUS,
  id,
  kind: 'user',
  roles,
  authenticatedBy: 'jwt'
})

/** The application under test, its clock, and what its authenticator was asked. */
async function build (
  t: Test,
  options: Omit<RateLimitOptions, 'now'>,
  prepare: (app: FastifyInstance) => void = app => {
    app.setErrorHandler(problemErrorHandler)
  }
): Promise<{ app: FastifyInstance; clock: { ms: number }; asked: string[] }> {
  const app = Fastify({ trustProxy: '127.0.0.1' })
  const clock = { ms: 1000 }
  const asked: string[] = []
  prepare(app)
  await app.register(rateLimit, { ...options, now: () => clock.ms })
  useGuard(app).addAuthenticator({
    method: 'jwt',
    find: ({ headers }) => headers.authorization ?? null,
    accepts: () => true,
    authenticate: async token => {
      asked.push(token)
      if (token === 'wrong') throw new CredentialInvalid()
      const [id = '', ...roles] = token.split(' ')
      return user(id, roles.length === 0 ? ['viewer'] : roles)
    }
  })
  t.teardown(() => app.close())
  app.get('/public', { config: { security: { public: true } } }, async () => 'ok')
  app.get('/free', { config: { security: { public: true, limits: false } } }, async () => 'ok')
  app.get('/none', async () => 'ok')
  app.get('/mine/:id', { config: { security: { authenticate: true } } }, async () => 'ok')
  return { app, clock, asked }
}

const from = (url: string, address = '192.0.2.1', authorization?: string): InjectOptions => ({
  url,
  headers: { 'x-forwarded-for': address, ...(authorization === undefined ? {} : { authorization }) }
})

t.test('429: problem document, exact time, fields of the draft; and on success the same fields', async t => {
  const { app, clock } = await build(t, {
    rules: {
      burst: { limit: 2, windowMs: 1500, by: 'address' },
      daily: { limit: 100, windowMs: 86_400_000, by: 'address' }
    },
    apply: { http: ['burst', 'daily'] }
  })
  const first = await app.inject(from('/public'))
  t.equal(first.statusCode, 200)
  t.match(first.headers, { 'ratelimit-policy': '"burst";q=2;w=2, "daily";q=100;w=86400', ratelimit: '"burst";r=1;t=2' })
  t.notOk('retry-after' in first.headers)
  clock.ms += 400
  t.match((await app.inject(from('/public'))).headers, { ratelimit: '"burst";r=0;t=2' })
  clock.ms += 200
  const refused = await app.inject(from('/public'))
  t.equal(refused.statusCode, 429)
  t.match(refused.headers, {
    'ratelimit-policy': '"burst";q=2;w=2, "daily";q=100;w=86400',
    'content-type': /problem\+json/,
    'retry-after': '1',
    ratelimit: '"burst";r=0;t=1',
    'cache-control': 'no-store'
  })
  t.match(refused.json(), {
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    code: 'MARTY_RATE_LIMIT_EXCEEDED',
    status: 429,
    retry_after_ms: 900,
    'violated-policies': ['burst']
  })
  clock.ms += 899
  t.equal((await app.inject(from('/public'))).json().retry_after_ms, 1)
  clock.ms += 1
  t.equal((await app.inject(from('/public'))).statusCode, 200)
})

t.test('defaults apply to every route with a rule and to 404s, not to limits: false', async t => {
  const { app } = await build(t, {
    rules: { all: { limit: 1, windowMs: 1000, by: 'address+operation' } },
    apply: { http: ['all'] }
  })
  for (const [url, statuses] of [
    ['/public', [200, 429]],
    ['/nothing', [404, 429]],
    ['/free', [200, 200]],
    ['/none', [200, 200]]
  ] as const) {
    for (const status of statuses) t.equal((await app.inject(from(url))).statusCode, status, url)
  }
})

t.test("a route's own limits come on top of the defaults", async t => {
  const { app } = await build(t, {
    rules: { all: { limit: 3, windowMs: 1000, by: 'global' }, own: { limit: 1, windowMs: 1000, by: 'global' } },
    apply: { http: ['all'] }
  })
  app.get('/own', { config: { security: { public: true, limits: ['own'] } } }, async () => 'ok')
  t.equal((await app.inject(from('/own'))).statusCode, 200)
  const refused = await app.inject(from('/own'))
  t.same(refused.json()['violated-policies'], ['own'])
  t.equal((await app.inject(from('/public'))).statusCode, 200)
  t.equal((await app.inject(from('/public'))).statusCode, 200)
  t.same((await app.inject(from('/public'))).json()['violated-policies'], ['all'], 'the refused call was not counted')
})

t.test('the raw URL buys nothing: a parameter, a query and an encoding are the same operation', async t => {
  const { app } = await build(t, {
    rules: { op: { limit: 1, windowMs: 1000, by: 'principal+operation' } },
    apply: { http: ['op'] }
  })
  t.equal((await app.inject(from('/mine/1', '192.0.2.1', 'alice'))).statusCode, 200)
  for (const url of ['/mine/2', '/mine/1?x=1', '/%6dine/1']) {
    t.equal((await app.inject(from(url, '192.0.2.1', 'alice'))).statusCode, 429, url)
  }
  t.equal((await app.inject(from('/mine/1', '192.0.2.1', 'bob'))).statusCode, 200)
})

t.test('principals are told apart by kind and name; anonymous callers by address', async t => {
  const { app } = await build(t, {
    rules: { who: { limit: 1, windowMs: 1000, by: 'principal' } },
    apply: { http: ['who'] }
  })
  for (const name of ['alice', 'alice:', 'a{lice}', '192.0.2.1', `${'x'.repeat(10_000)}`]) {
    t.equal((await app.inject(from('/mine/1', '192.0.2.1', name))).statusCode, 200, name.slice(0, 20))
    t.equal((await app.inject(from('/mine/1', '192.0.2.2', name))).statusCode, 429, name.slice(0, 20))
  }
  t.equal((await app.inject(from('/public', '192.0.2.1'))).statusCode, 200)
  t.equal((await app.inject(from('/public', '192.0.2.1'))).statusCode, 429)
  t.equal((await app.inject(from('/public', '192.0.2.2'))).statusCode, 200)
})

t.test('the largest limit of the roles held; roles named like members of every object hold nothing', async t => {
  const { app } = await build(t, {
    rules: { r: { limit: { default: 1, viewer: 2, admin: 3 }, windowMs: 1000, by: 'principal' } },
    apply: { http: ['r'] }
  })
  const admitted = async (credential: string): Promise<number> => {
    let count = 0
    while ((await app.inject(from('/mine/1', '192.0.2.1', credential))).statusCode === 200) count++
    return count
  }
  t.equal(await admitted('a stranger'), 1)
  t.equal(await admitted('b viewer'), 2)
  t.equal(await admitted('c viewer admin'), 3)
  t.equal(await admitted('d constructor __proto__'), 1)
})

t.test('an address over budget is refused before its credential is looked at, until the exact time', async t => {
  const { app, clock, asked } = await build(t, {
    rules: { ip: { limit: 2, windowMs: 1000, by: 'address' } },
    apply: { http: ['ip'] }
  })
  for (let i = 0; i < 2; i++) await app.inject(from('/mine/1', '192.0.2.1', 'alice'))
  asked.length = 0
  clock.ms += 999
  const refused = await app.inject(from('/mine/1', '192.0.2.1', 'alice'))
  t.match([refused.statusCode, refused.json().retry_after_ms], [429, 1])
  t.same(asked, [])
  t.equal((await app.inject(from('/mine/1', '192.0.2.2', 'alice'))).statusCode, 200)
  clock.ms += 1
  t.equal((await app.inject(from('/mine/1', '192.0.2.1', 'alice'))).statusCode, 200)
})

t.test('guessing: no more credentials are looked at than the failure rule allows, the right one included', async t => {
  const { app, clock, asked } = await build(t, {
    rules: { guesses: { limit: 3, windowMs: 1000, by: 'address' } },
    onAuthenticationFailure: ['guesses']
  })
  for (let i = 0; i < 3; i++) t.equal((await app.inject(from('/mine/1', '192.0.2.1', 'wrong'))).statusCode, 401)
  for (const credential of ['wrong', 'alice']) {
    const refused = await app.inject(from('/mine/1', '192.0.2.1', credential))
    t.equal(refused.statusCode, 429, credential)
    t.same(refused.json()['violated-policies'], ['guesses'])
  }
  t.equal(asked.length, 3)
  t.equal(
    (await app.inject(from('/mine/1', '192.0.2.9', 'alice'))).statusCode,
    200,
    'elsewhere the account is not locked'
  )
  t.equal((await app.inject(from('/public', '192.0.2.1'))).statusCode, 200, 'public routes ask for no credential')
  clock.ms += 1000
  t.equal((await app.inject(from('/mine/1', '192.0.2.1', 'alice'))).statusCode, 200)
  for (let i = 0; i < 10; i++) {
    t.equal((await app.inject(from('/mine/1', '192.0.2.1', 'alice'))).statusCode, 200, 'success costs nothing')
  }
})

t.test(
  'a credential beyond guessing is verified first: a right one is let in, a wrong one refused by the same limit',
  async t => {
    const { app, clock, asked } = await build(t, {
      rules: { guesses: { limit: 2, windowMs: 1000, by: 'address' } },
      onAuthenticationFailure: ['guesses']
    })
    const find =
      (header: string) =>
        ({ headers }: IncomingMessage): string | null =>
          headers[header]?.toString() ?? null
    const authenticate = (token: string): Principal => {
      if (token === 'wrong') throw new CredentialInvalid()
      if (token === 'store gone') throw new StoreGone()
      if (token === 'other site') throw new OtherSite()
      return user(token)
    }
    app.guard.addAuthenticator({
      method: 'apiKey',
      unguessable: true,
      find: find('x-signed'),
      accepts: token => token !== 'no credential',
      authenticate
    })
    app.get('/keys', { config: { security: { authenticate: ['apiKey'] } } }, async () => 'ok')
    const operation = app.guard.operation({
      name: 'in',
      transport: 'rpc',
      rule: { authenticate: ['apiKey'] },
      where: 'method in'
    })!
    const get = async (url: string, credential: string): Promise<number> =>
      (await app.inject({ url, headers: { 'x-forwarded-for': '192.0.2.1', 'x-signed': credential } })).statusCode
    for (let i = 0; i < 5; i++) {
      t.same(
        [await get('/keys', 'store gone'), await get('/keys', 'other site')],
        [503, 403],
        'neither is a wrong credential'
      )
    }
    t.same([await get('/keys', 'wrong'), await get('/keys', 'wrong'), await get('/keys', 'wrong')], [401, 401, 429])
    t.equal(await get('/keys', 'alice'), 200)
    t.equal(
      (await app.inject(from('/mine/1', '192.0.2.1', 'alice'))).statusCode,
      429,
      'what can be guessed is not looked at'
    )
    t.same(asked, [])
    t.equal(
      (await app.inject(from('/keys', '192.0.2.1', 'alice'))).statusCode,
      429,
      'a credential that the route does not take is a wrong one'
    )
    t.equal((await app.inject(from('/keys'))).statusCode, 401, 'no credential is no guess')
    const call = (token: string): Call => createCall(operation, '1', '192.0.2.1', null, ANONYMOUS, token)
    t.equal(await operation.decide(call('alice')), undefined)
    for (const token of ['wrong', 'no credential']) {
      t.match(await operation.decide(call(token)), { code: 'MARTY_RATE_LIMIT_EXCEEDED' }, token)
    }
    t.equal(app.limiter.metrics()['guesses']!.allowed, 2)
    clock.ms += 1000
    t.equal(await get('/keys', 'wrong'), 401)
  }
)

t.test('failing is no cheaper way to knock: the address limits are charged as well', async t => {
  const { app } = await build(t, {
    rules: { ip: { limit: 2, windowMs: 1000, by: 'address' }, guesses: { limit: 9, windowMs: 1000, by: 'address' } },
    apply: { http: ['ip'] },
    onAuthenticationFailure: ['guesses']
  })
  const statuses: number[] = []
  for (let i = 0; i < 3; i++) statuses.push((await app.inject(from('/mine/1', '192.0.2.1', 'wrong'))).statusCode)
  t.same(statuses, [401, 401, 429])
})

t.test("a connection that is already authenticated does not pay for its neighbour's guesses", async t => {
  const { app } = await build(t, {
    rules: { guesses: { limit: 1, windowMs: 1000, by: 'address' } },
    onAuthenticationFailure: ['guesses']
  })
  const operation = app.guard.operation({
    name: 'view',
    transport: 'rpc',
    rule: { authenticate: true },
    where: 'method view'
  })!
  await app.ready()
  await app.inject(from('/mine/1', '192.0.2.1', 'wrong'))
  t.equal((await app.inject(from('/mine/1', '192.0.2.1', 'alice'))).statusCode, 429)
  t.equal(operation.decide(createCall(operation, '1', '192.0.2.1', null, user('bob'))), undefined)
})

t.test('IPv6 counts by /64, mapped IPv4 as IPv4', async t => {
  const { app } = await build(t, {
    rules: { ip: { limit: 1, windowMs: 1000, by: 'address' } },
    apply: { http: ['ip'] }
  })
  for (const [address, status] of [
    ['2001:db8::1', 200],
    ['2001:db8:0:0:ffff::9', 429],
    ['2001:db8:0:1::1', 200],
    ['198.51.100.7', 200],
    ['::ffff:198.51.100.7', 429],
    ['::ffff:c633:6407', 429]
  ] as const) {
    t.equal((await app.inject(from('/public', address))).statusCode, status, address)
  }
})

t.test("over RPC: the transport's own defaults, -32040, decided without a promise", async t => {
  const { app } = await build(t, {
    rules: { calls: { limit: 1, windowMs: 1000, by: 'principal' } },
    apply: { rpc: ['calls'] }
  })
  const events: SecurityEvent[] = []
  app.guard.addSink(event => {
    events.push(event)
  })
  const operation = app.guard.operation({
    name: 'view',
    transport: 'rpc',
    rule: { authenticate: true },
    where: 'method view'
  })!
  await app.ready()
  t.equal(operation.decide(createCall(operation, '1', null, null, user('alice'))), undefined)
  t.match(operation.decide(createCall(operation, '2', null, null, user('alice'))), {
    code: 'MARTY_RATE_LIMIT_EXCEEDED',
    rpcCode: -32040,
    data: { retry_after_ms: 1000, 'violated-policies': ['calls'] }
  })
  t.match(events, [{ type: 'limit', action: 'view', outcome: 'denied', principal: { id: 'alice' } }])
  t.equal((await app.inject(from('/public'))).headers.ratelimit, undefined, 'HTTP has no default')
})

t.test('an application that answers errors itself need not know of the fields: they are there', async t => {
  const { app } = await build(
    t,
    { rules: { ip: { limit: 1, windowMs: 60_000, by: 'address' } }, apply: { http: ['ip'] } },
    app => {
      app.setErrorHandler(async (error: MartyError, _request, reply) => await reply.code(error.statusCode).send('mine'))
    }
  )
  await app.inject(from('/public'))
  const { statusCode, body, headers } = await app.inject(from('/public'))
  t.same([statusCode, body], [429, 'mine'])
  t.match(headers, {
    'ratelimit-policy': '"ip";q=1;w=60',
    ratelimit: '"ip";r=0;t=60',
    'retry-after': '60',
    'cache-control': 'no-store'
  })
})

t.test('limiter.check answers instead of throwing, and refuses what it cannot mean', async t => {
  const { app, clock } = await build(t, {
    rules: { messages: { limit: 5, windowMs: 1000, by: 'principal' }, all: { limit: 8, windowMs: 1000, by: 'global' } }
  })
  const who = { address: null, principal: user('alice') }
  t.match(await app.limiter.check(who, ['messages', 'all'], 4), {
    allowed: true,
    retryAfterMs: 0,
    violated: [],
    degraded: false,
    quotas: [
      { rule: 'messages', limit: 5, remaining: 1 },
      { rule: 'all', remaining: 4 }
    ]
  })
  clock.ms += 250
  t.match(await app.limiter.check(who, ['messages', 'all'], 2), {
    allowed: false,
    retryAfterMs: 750,
    violated: ['messages']
  })
  t.match(
    await app.limiter.check({ address: null }, ['messages', 'all'], 4),
    { allowed: true },
    'without a principal and an address: a budget of their own'
  )
  t.match(await app.limiter.check(who, ['messages', 'all']), { allowed: false, violated: ['all'] })
  await t.rejects(app.limiter.check(who, ['mesages']), {
    code: 'MARTY_CORE_RULE_INVALID',
    message: /did you mean "messages"/
  })
  for (const cost of [0, -1, 1.5]) {
    await t.rejects(
      app.limiter.check(who, ['messages', 'all'], cost),
      { code: 'MARTY_RATE_LIMIT_OPT_INVALID', message: /cost must be an integer from 1 to 1000000/ },
      String(cost)
    )
  }
})

t.test('a store that fails closed answers 503', async t => {
  const dead = async (): Promise<never> => {
    throw new Error('connection refused')
  }
  const { app } = await build(t, {
    rules: { ip: { limit: 1, windowMs: 1000, by: 'address' } },
    apply: { http: ['ip'] },
    store: { redis: { evalsha: dead, eval: dead, callBuffer: dead }, onFailure: 'closed' }
  })
  const answer = await app.inject(from('/public'))
  t.equal(answer.statusCode, 503)
  t.match(answer.json(), { code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE', type: /temporary-reduced-capacity/ })
  t.notMatch(answer.body, 'connection refused')
})

t.test('a degraded refusal says so and is forgotten when the store is back', async t => {
  let alive = false
  const evalsha = async (): Promise<unknown> => null
  const callBuffer = async (command: string, args: unknown[]): Promise<unknown> => {
    if (!alive) throw new Error('gone')
    const requests = (args.at(-1) as string).length / 10
    return Buffer.concat([Buffer.alloc(7), ...Array.from({ length: requests }, () => Buffer.alloc(1 + 15, 1))])
  }
  const { app } = await build(t, {
    rules: { ip: { limit: 1, windowMs: 60_000, by: 'address' } },
    apply: { http: ['ip'] },
    store: { redis: { evalsha, eval: evalsha, callBuffer } }
  })
  t.equal((await app.inject(from('/public'))).statusCode, 200)
  t.match((await app.inject(from('/public'))).json(), { status: 429, degraded: true })
  alive = true
  t.equal((await app.inject(from('/public'))).statusCode, 200)
})

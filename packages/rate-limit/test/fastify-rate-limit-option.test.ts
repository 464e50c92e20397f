import t from 'tap'
import Fastify from 'fastify'
import fastifyRateLimit, { type RateLimitPluginOptions } from '@fastify/rate-limit'
import { ANONYMOUS, CredentialInvalid, problemErrorHandler, useGuard } from '@marty/core'
import {
  rateLimit,
  slidingWindowStore,
  SlidingWindowStore,
  type FastifyRateLimitSettings,
  type SlidingWindowStoreOptions
} from '@marty/rate-limit'
import { from, newApp, startServer, statuses } from './fastify-rate-limit-subjects.js'

const { redis } = await startServer(t)
const LONG = 600_000
const invalid = { code: 'MARTY_RATE_LIMIT_OPT_INVALID' }

t.test('settings that could not be kept stop the start by name', async t => {
  const cases: Array<readonly [object | string | number | null, RegExp]> = [
    [{ redis }, /"fastifyRateLimit\.redis" belongs into "store"/],
    [{ store: SlidingWindowStore }, /"fastifyRateLimit\.store" belongs beside/],
    [{ nameSpace: 'x' }, /"fastifyRateLimit\.nameSpace" is "prefix"/],
    [{ cache: 5 }, /"fastifyRateLimit\.cache" is "maxKeys"/],
    [{ continueExceeding: true }, /continueExceeding cannot be kept/],
    [{ exponentialBackoff: true }, /exponentialBackoff cannot be kept/],
    [{ timewindow: 5 }, /"fastifyRateLimit\.timewindow" is not known; did you mean "timeWindow"/],
    [{ max: '100' }, /"fastifyRateLimit\.max" must be an integer from 0 to 1000000 or a function, not a string/],
    [{ max: -1 }, /max/],
    [{ max: 1.5 }, /max/],
    [{ max: Infinity }, /max/],
    [{ max: 1_000_001 }, /max/],
    [{ timeWindow: true }, /timeWindow" must be an integer from 1 to 31622400000, a string such as "1 minute" or a function/],
    [{ timeWindow: 0 }, /timeWindow/],
    [{ timeWindow: -1 }, /timeWindow/],
    [{ timeWindow: 'a while' }, /timeWindow/],
    [{ timeWindow: '2 years' }, /timeWindow/],
    [{ ban: '2' }, /ban/],
    [{ ban: -2 }, /ban/],
    [{ hook: 'onrequest' }, /hook" .*not "onrequest"; did you mean "onRequest"/],
    [{ hook: 'onSend' }, /hook/],
    [{ allowList: '127.0.0.1' }, /allowList" must be a list or a function/],
    [{ ipv6Subnet: 129 }, /ipv6Subnet/],
    [{ ipv6Subnet: '64' }, /ipv6Subnet/],
    [{ keyGenerator: 'ip' }, /keyGenerator" must be a function/],
    [{ onExceeded: true }, /onExceeded" must be a function/],
    [{ global: 'no' }, /global" must be true or false/],
    [{ skipOnError: 1 }, /skipOnError" must be true or false/],
    [{ continueExceeding: 'no' }, /continueExceeding" must be true or false/],
    [{ enableDraftSpec: null }, /enableDraftSpec" must be true or false/],
    [{ addHeaders: { 'x-ratelimit-limt': false } }, /did you mean "x-ratelimit-limit"/],
    [{ addHeadersOnExceeding: { 'retry-after': false } }, /addHeadersOnExceeding\.retry-after" is not known/],
    [{ groupId: 'a' }, /groupId" is not known/],
    ['yes', /"fastifyRateLimit" must be true, false or an object/],
    [null, /"fastifyRateLimit" must be true, false or an object/],
    [[], /"fastifyRateLimit" must be true, false or an object/],
    [5, /"fastifyRateLimit" must be true, false or an object/]
  ]
  for (const [settings, message] of cases) {
    const app = Fastify()
    await t.rejects(
      async () => await app.register(rateLimit, { rules: {}, fastifyRateLimit: settings as FastifyRateLimitSettings }),
      { ...invalid, message },
      JSON.stringify(settings)?.slice(0, 40)
    )
    await app.close()
  }
})

t.test('settings of a route, too, where the plugin would take its default', async t => {
  const app = newApp(t)
  await app.register(rateLimit, { rules: {}, fastifyRateLimit: true })
  for (const [settings, message] of [
    [{ max: '5' }, /"route GET \/x: config\.rateLimit\.max" must be/],
    [{ timeWindow: 'soon' }, /route GET \/x: config\.rateLimit\.timeWindow must be/],
    [{ timeWindow: -5 }, /timeWindow/],
    [{ maxx: 5 }, /config\.rateLimit\.maxx" is not known; did you mean "max"/],
    [{ cache: 5 }, /config\.rateLimit\.cache" is not known/],
    [{ hook: 'prehandler' }, /did you mean "preHandler"/],
    [{ allowList: '127.0.0.1' }, /allowList/],
    [{ keyGenerator: 'ip' }, /keyGenerator/],
    [{ global: true }, /global/],
    [{ ban: 2_000_000 }, /ban/],
    [{ groupId: 5 }, /groupId/]
  ] as const) {
    t.throws(
      () => app.get('/x', { config: { rateLimit: settings as never } }, async () => 'ok'),
      message instanceof RegExp ? { message } : message
    )
  }
  app.get(
    '/undefined',
    { config: { rateLimit: { max: undefined, keyGenerator: undefined } as never } },
    async () => 'ok'
  )
})

t.test('options of the store that could not be kept are refused', async t => {
  const cases: Array<readonly [object, RegExp]> = [
    [{ redis: undefined }, /^slidingWindowStore\(\) option "redis" is required; it must be a Redis client of ioredis$/],
    [{ redis: {} }, /"redis" must be a Redis client/],
    [{ prefix: 'x' }, /"redis" is required/],
    [{ redis, prefix: 'a b' }, /"prefix"/],
    [{ nameSpace: 'x' }, /"nameSpace" is not known/],
    [{ redis, nameSpace: 'x' }, /"nameSpace" is not known/],
    [{ redis, onFailure: 'opne' }, /did you mean "open"/],
    [{ redis, deadlineMs: 0 }, /"deadlineMs"/],
    [{ maxKeys: 0 }, /"maxKeys" must be an integer from 1 to 10000000, not 0/],
    [{ now: 5 }, /"now"/],
    [{ onDegraded: 'log' }, /"onDegraded"/],
    [{ redis, onDegraded: 'log' }, /"onDegraded"/]
  ]
  for (const [options, message] of cases) {
    t.throws(() => slidingWindowStore(options as SlidingWindowStoreOptions), { ...invalid, message }, message.source)
  }
  t.throws(() => new SlidingWindowStore({ max: 1_000_001, timeWindow: 5 }), { ...invalid, message: /max must be/ })
  t.throws(() => new SlidingWindowStore({ max: 1, timeWindow: undefined }), {
    ...invalid,
    message: /timeWindow must be/
  })
})

t.test('registered beside itself it would count twice', async t => {
  const app = newApp(t)
  await app.register(fastifyRateLimit)
  await t.rejects(async () => await app.register(rateLimit, { rules: {}, fastifyRateLimit: true }), {
    ...invalid,
    message: /registered already/
  })
})

t.test('without the option nothing of it is there', async t => {
  const app = newApp(t)
  await app.register(rateLimit, { rules: {}, fastifyRateLimit: false })
  t.equal(app.hasDecorator('createRateLimit'), false)
  t.equal(app.hasPlugin('@fastify/rate-limit'), false)
})

t.test("true is the plugin with its defaults, on the limiter's clock", async t => {
  const app = newApp(t)
  let ms = 1000
  await app.register(rateLimit, { rules: {}, now: () => ms, fastifyRateLimit: true })
  app.get('/', { config: { rateLimit: { max: 1 } } }, async () => 'ok')
  app.get('/else', async () => 'ok')
  t.equal((await app.inject('/else')).headers['x-ratelimit-limit'], '1000')
  t.same(await statuses(app, 2, '/'), [200, 429])
  ms += 59_999
  t.equal((await app.inject('/')).headers['retry-after'], '1')
  ms += 1
  t.equal((await app.inject('/')).statusCode, 200)
})

t.test('refusals are problem documents, with the exact wait', async t => {
  const app = newApp(t)
  let ms = 1000
  app.setErrorHandler(problemErrorHandler)
  await app.register(rateLimit, { rules: {}, now: () => ms, fastifyRateLimit: { max: 1, ban: 1, timeWindow: 5000 } })
  app.get('/', async () => 'ok')
  await app.inject('/')
  ms += 1800
  const refused = await app.inject('/')
  t.match(refused.headers, {
    'content-type': /^application\/problem\+json/,
    'cache-control': 'no-store',
    'retry-after': '4',
    'x-ratelimit-remaining': '0'
  })
  t.match(refused.json(), {
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    status: 429,
    code: 'MARTY_RATE_LIMIT_EXCEEDED',
    retry_after_ms: 3200,
    detail: /3200 ms/
  })
  const banned = await app.inject('/')
  t.match([banned.statusCode, banned.json()], [403, { code: 'MARTY_RATE_LIMIT_BANNED', retry_after_ms: 3200 }])
})

t.test("an answer of the application's own takes its place", async t => {
  const app = newApp(t)
  await app.register(rateLimit, {
    rules: {},
    fastifyRateLimit: {
      max: 0,
      timeWindow: LONG,
      errorResponseBuilder: (request, context) => ({ statusCode: context.statusCode, mine: true })
    }
  })
  app.setErrorHandler((error, request, reply) => reply.code(429).send(error))
  app.get('/', async () => 'ok')
  t.same((await app.inject('/')).json(), { statusCode: 429, mine: true })
})

t.test(
  "beside the limiter: the same Redis and prefix, budgets apart, and one's refusal costs the other's nothing",
  async t => {
    await redis.flushall()
    const app = newApp(t)
    await app.register(rateLimit, {
      rules: { own: { limit: 3, windowMs: LONG, by: 'address' } },
      store: { redis, prefix: 'shop', deadlineMs: 10_000 },
      fastifyRateLimit: { global: false }
    })
    app.get(
      '/',
      { config: { security: { public: true, limits: ['own'] }, rateLimit: { max: 2, timeWindow: LONG } } },
      async () => 'ok'
    )
    const answers = []
    for (let i = 0; i < 4; i++) answers.push(await app.inject('/'))
    t.same(
      answers.map(answer => answer.statusCode),
      [200, 200, 429, 429]
    )
    t.match(answers[0]?.headers, { ratelimit: '"own";r=2;t=600', 'x-ratelimit-remaining': '1' }, 'both tell')
    t.match(answers[2]?.json().detail, /^Too many requests/)
    t.notOk('x-ratelimit-limit' in answers[3]!.headers, 'the limiter, which comes first, refused it')
    t.match((await redis.keys('*')).filter(key => !key.includes('#')).sort(), [
      /^\{shop\}:@fastify\/rate-limit:/,
      /^\{shop\}:own:/
    ])
  }
)

t.test('it comes after the guard: it knows who is calling, and does not count whom the guard refuses', async t => {
  const app = newApp(t)
  useGuard(app, { strict: true })
  const keys: string[] = []
  await app.register(rateLimit, {
    rules: { guesses: { limit: 2, windowMs: LONG, by: 'address' } },
    onAuthenticationFailure: ['guesses'],
    fastifyRateLimit: {
      max: 1,
      timeWindow: LONG,
      keyGenerator: request => request.principal.id,
      onExceeding: (_, key) => {
        keys.push(key)
      }
    }
  })
  app.guard.addAuthenticator({
    method: 'jwt',
    find: ({ headers }) => headers.authorization ?? null,
    accepts: () => true,
    authenticate: async token => {
      if (token === 'wrong') throw new CredentialInvalid()
      return { ...ANONYMOUS, id: token, kind: 'user', authenticatedBy: 'jwt' }
    }
  })
  app.get('/', { config: { security: { authenticate: true }, rateLimit: {} } }, async () => 'ok')
  const as = async (authorization: string, address = '192.0.2.1'): Promise<number> =>
    (await app.inject(from('/', address, { authorization }))).statusCode
  t.same([await as('wrong'), await as('alice'), await as('alice'), await as('bob', '192.0.2.2')], [401, 200, 429, 200])
  t.same([await as('wrong'), await as('carol')], [401, 429], 'guessing is limited by onAuthenticationFailure')
  t.same(keys, ['alice', 'bob'])
})

t.test('config.rateLimit is no security rule: in a strict application the route says who may call it', async t => {
  const app = newApp(t)
  useGuard(app, { strict: true })
  await app.register(rateLimit, { rules: {}, fastifyRateLimit: { max: 1, timeWindow: LONG } })
  app.get('/', { config: { rateLimit: { max: 1 } } }, async () => 'ok')
  await t.rejects(async () => await app.ready(), { code: 'MARTY_CORE_RULE_MISSING', message: /GET \// })
})

t.test('nobody is pushed out of the memory store but the client used least, and the wait survives', async t => {
  const app = newApp(t)
  const settings: RateLimitPluginOptions = { max: 1, timeWindow: LONG, store: slidingWindowStore({ maxKeys: 2 }) }
  await app.register(fastifyRateLimit, settings)
  app.get('/', async () => 'ok')
  for (const [address, status] of [
    ['192.0.2.1', 200],
    ['192.0.2.2', 200],
    ['192.0.2.2', 429],
    ['192.0.2.3', 200],
    ['192.0.2.1', 200]
  ] as const) {
    t.equal((await app.inject(from('/', address))).statusCode, status, address)
  }
})

t.test('the store by itself: any key is a key, and one that is none is an error, not a crash', async t => {
  const store = new SlidingWindowStore({ max: 1, timeWindow: LONG })
  for (const key of ['', 'x'.repeat(1_000_000), 7, undefined, null, Symbol('k'), true]) {
    store.incr(
      key as string,
      (error, result) => {
        t.same([error, result?.current], [null, 1], String(key).slice(0, 20))
      },
      LONG,
      1
    )
    store.incr(
      key as string,
      (error, result) => {
        t.same([error, result?.current], [null, 2])
      },
      LONG,
      1
    )
  }
  store.incr(
    Object.create(null) as string,
    error => {
      t.ok(error instanceof TypeError)
    },
    LONG,
    1
  )
  store.read(
    Object.create(null) as string,
    error => {
      t.ok(error instanceof TypeError)
    },
    LONG,
    1
  )
})

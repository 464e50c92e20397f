import t, { type Test } from 'tap'
import type { FastifyRequest } from 'fastify'
import { Redis } from 'ioredis'
import fastifyRateLimit from '@fastify/rate-limit'
import { rateLimit, slidingWindowStore } from '@marty/rate-limit'
import { freePort, until } from '@marty/testing'
import {
  from,
  newApp,
  newSpace,
  startServer,
  statuses,
  subjectsOn,
  type Subject
} from './fastify-rate-limit-subjects.js'

/**
 * What `@fastify/rate-limit` promises, asked of it on its own stores and on ours, with the same expectations.
 * Where they part on purpose is in fastify-rate-limit-differences.test.ts.
 */
const { redis } = await startServer(t)

/** Never over while a test runs. */
const LONG = 600_000

const behaviours: Record<string, (t: Test, subject: Subject) => Promise<void>> = {
  async 'refuses what is above max, and says so in headers' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 2, timeWindow: LONG })
    app.get('/', async () => 'ok')
    const answers = [await app.inject('/'), await app.inject('/'), await app.inject('/')]
    t.same(
      answers.map(answer => answer.statusCode),
      [200, 200, 429]
    )
    t.same(
      answers.map(answer => answer.headers['x-ratelimit-limit']),
      ['2', '2', '2']
    )
    t.same(
      answers.map(answer => answer.headers['x-ratelimit-remaining']),
      ['1', '0', '0']
    )
    for (const { headers } of answers) {
      const reset = Number(headers['x-ratelimit-reset'])
      t.ok(reset > 0 && reset <= LONG / 1000, 'seconds, at most the window')
    }
    t.equal(answers[1]?.headers['retry-after'], undefined)
    t.equal(answers[2]?.headers['retry-after'], answers[2]?.headers['x-ratelimit-reset'])
  },

  async 'opens again' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 1, timeWindow: 300 })
    app.get('/', async () => 'ok')
    t.equal((await app.inject('/')).statusCode, 200)
    await until(async () => (await app.inject('/')).statusCode === 429, 'a refusal')
    await until(async () => (await app.inject('/')).statusCode === 200, 'the window to pass')
  },

  async 'a limit of none refuses everybody' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 0, timeWindow: LONG })
    app.get('/', async () => 'ok')
    t.same(await statuses(app, 2, '/'), [429, 429])
  },

  async 'the defaults: 1000 in a minute, on every route' (t, { register }) {
    const app = newApp(t)
    await register(app)
    app.get('/a', async () => 'ok')
    app.get('/b', async () => 'ok')
    t.match((await app.inject('/a')).headers, {
      'x-ratelimit-limit': '1000',
      'x-ratelimit-remaining': '999',
      'x-ratelimit-reset': '60'
    })
    t.match((await app.inject('/b')).headers, { 'x-ratelimit-remaining': '998' })
  },

  async 'the window as text' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 1, timeWindow: '2 hours' })
    app.get('/', async () => 'ok')
    app.get('/own', { config: { rateLimit: { timeWindow: '1 minute' } } }, async () => 'ok')
    t.equal((await app.inject('/')).headers['x-ratelimit-reset'], '7200')
    t.equal((await app.inject('/own')).headers['x-ratelimit-reset'], '60')
  },

  async 'clients have budgets of their own, IPv6 by /64 unless said otherwise' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 1, timeWindow: LONG })
    app.get('/', async () => 'ok')
    app.get('/each', { config: { rateLimit: { ipv6Subnet: 128 } } }, async () => 'ok')
    for (const [address, status] of [
      ['192.0.2.1', 200],
      ['192.0.2.2', 200],
      ['192.0.2.1', 429],
      ['::ffff:192.0.2.1', 429],
      ['2001:db8::1', 200],
      ['2001:db8::2', 429],
      ['2001:db8:0:1::1', 200]
    ] as const) {
      t.equal((await app.inject(from('/', address))).statusCode, status, address)
    }
    t.equal((await app.inject(from('/each', '2001:db8::1'))).statusCode, 200)
    t.equal((await app.inject(from('/each', '2001:db8::2'))).statusCode, 200)
  },

  async "keys of one's own, at once or later, for all routes or one" (t, { register }) {
    const app = newApp(t)
    await register(app, {
      max: 1,
      timeWindow: LONG,
      keyGenerator: async request => request.headers['x-client'] as string
    })
    app.get('/', async () => 'ok')
    app.get('/number', { config: { rateLimit: { keyGenerator: () => 7 } } }, async () => 'ok')
    t.equal((await app.inject(from('/', '192.0.2.1', { 'x-client': 'a' }))).statusCode, 200)
    t.equal((await app.inject(from('/', '192.0.2.2', { 'x-client': 'a' }))).statusCode, 429)
    t.equal((await app.inject(from('/', '192.0.2.1', { 'x-client': 'b' }))).statusCode, 200)
    t.same(await statuses(app, 2, '/number'), [200, 429])
  },

  async 'a key generator that fails fails the request, uncounted' (t, { register }) {
    const app = newApp(t)
    const calls: string[] = []
    await register(app, {
      max: 1,
      timeWindow: LONG,
      keyGenerator: request => {
        if (request.headers['x-bad'] !== undefined) throw new Error('no key')
        return 'k'
      },
      onExceeding: (_, key) => {
        calls.push(key)
      }
    })
    app.get('/', async () => 'ok')
    t.equal((await app.inject(from('/', undefined, { 'x-bad': '1' }))).statusCode, 500)
    t.same(await statuses(app, 2, '/'), [200, 429])
    t.same(calls, ['k'])
  },

  async 'a limit that depends on the request and key' (t, { register }) {
    const app = newApp(t)
    await register(app, {
      max: async (request: FastifyRequest, key: string) => (key === 'pro' && request.method === 'GET' ? 3 : 1),
      timeWindow: (request: FastifyRequest, key: string) => (key === 'pro' ? LONG : LONG / 2),
      keyGenerator: request => request.headers['x-client'] as string
    })
    app.get('/', async () => 'ok')
    t.same(await statuses(app, 4, from('/', undefined, { 'x-client': 'pro' })), [200, 200, 200, 429])
    t.same(await statuses(app, 2, from('/', undefined, { 'x-client': 'free' })), [200, 429])
    const refused = await app.inject(from('/', undefined, { 'x-client': 'free' }))
    t.equal(refused.headers['x-ratelimit-limit'], '1')
    t.ok(Number(refused.headers['retry-after']) <= LONG / 2000)
  },

  async 'a limit that grows for a client who has used it up lets the client in' (t, { register }) {
    const app = newApp(t)
    let max = 2
    await register(app, { max: () => max, timeWindow: LONG })
    app.get('/', async () => 'ok')
    t.same(await statuses(app, 3, '/'), [200, 200, 429])
    max = 200
    t.equal((await app.inject('/')).statusCode, 200)
    max = 1
    t.equal((await app.inject('/')).statusCode, 429)
  },

  async 'no limit at all for some' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: () => Infinity, timeWindow: LONG })
    app.get('/', async () => 'ok')
    t.same(await statuses(app, 3, '/'), [200, 200, 200])
  },

  async "a route's own limit is a budget of its own" (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 2, timeWindow: LONG })
    app.get('/', async () => 'ok')
    app.get('/own', { config: { rateLimit: { max: 1 } } }, async () => 'ok')
    app.post('/own', { config: { rateLimit: { max: 1 } } }, async () => 'ok')
    app.get('/free', { config: { rateLimit: false } }, async () => 'ok')
    t.same(await statuses(app, 2, '/own'), [200, 429])
    t.equal((await app.inject({ method: 'POST', url: '/own' })).statusCode, 200)
    t.same(await statuses(app, 3, '/'), [200, 200, 429])
    const free = await app.inject('/free')
    t.equal(free.statusCode, 200)
    t.equal(free.headers['x-ratelimit-limit'], undefined)
  },

  async 'a parameter buys no budget' (t, { register }) {
    const app = newApp(t)
    await register(app, { global: false })
    app.get('/things/:id', { config: { rateLimit: { max: 1, timeWindow: LONG } } }, async () => 'ok')
    t.equal((await app.inject('/things/1')).statusCode, 200)
    t.equal((await app.inject('/things/2?x=1')).statusCode, 429)
  },

  async 'nor does a slash after a prefix' (t, { register }) {
    const app = newApp(t)
    await register(app, { global: false })
    await app.register(
      async login => {
        login.post('/', { config: { rateLimit: { max: 1, timeWindow: LONG } } }, async () => 'ok')
      },
      { prefix: '/login' }
    )
    t.equal((await app.inject({ method: 'POST', url: '/login' })).statusCode, 200)
    t.equal((await app.inject({ method: 'POST', url: '/login/' })).statusCode, 429)
  },

  async 'not global: only where a route asks for it' (t, { register }) {
    const app = newApp(t)
    await register(app, { global: false, max: 1, timeWindow: LONG })
    app.get('/', async () => 'ok')
    app.get('/own', { config: { rateLimit: {} } }, async () => 'ok')
    t.same(await statuses(app, 2, '/'), [200, 200])
    t.same(await statuses(app, 2, '/own'), [200, 429])
  },

  async 'a setting it cannot understand stops the start' (t, { register }) {
    const app = newApp(t)
    await register(app)
    t.throws(() => app.get('/', { config: { rateLimit: 'yes' as never } }, async () => 'ok'), /Unknown value/)
  },

  async 'allowed clients are not counted' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 0, timeWindow: LONG, allowList: ['192.0.2.7'] })
    app.get('/', async () => 'ok')
    app.get(
      '/asked',
      {
        config: {
          rateLimit: {
            allowList: async (request: FastifyRequest, key: string) =>
              request.headers['x-internal'] === 'yes' && key === '192.0.2.8'
          }
        }
      },
      async () => 'ok'
    )
    t.match(await app.inject(from('/', '192.0.2.7')), { statusCode: 200 })
    t.equal((await app.inject(from('/', '192.0.2.7'))).headers['x-ratelimit-limit'], undefined)
    t.equal((await app.inject(from('/', '192.0.2.8'))).statusCode, 429)
    t.equal((await app.inject(from('/asked', '192.0.2.7'))).statusCode, 429, "the route's replaces the global one")
    t.equal((await app.inject(from('/asked', '192.0.2.8', { 'x-internal': 'yes' }))).statusCode, 200)
    t.equal((await app.inject(from('/asked', '192.0.2.8'))).statusCode, 429)
  },

  async 'ban: so many refusals, then 403' (t, { register }) {
    const app = newApp(t)
    const banned: string[] = []
    await register(app, {
      max: 1,
      ban: 2,
      timeWindow: LONG,
      onBanReach: (_, key) => {
        banned.push(key)
      }
    })
    app.get('/', async () => 'ok')
    app.get('/at-once', { config: { rateLimit: { ban: 0 } } }, async () => 'ok')
    t.same(await statuses(app, 6, '/'), [200, 429, 429, 403, 403, 403])
    t.same(banned, ['127.0.0.1', '127.0.0.1', '127.0.0.1'])
    t.equal((await app.inject(from('/', '192.0.2.7'))).statusCode, 200, 'nobody else')
    t.same(await statuses(app, 2, '/at-once'), [200, 403])
  },

  async 'a ban of thousands' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 0, ban: 5000, timeWindow: LONG })
    app.get('/', async () => 'ok')
    t.same(await statuses(app, 3, '/'), [429, 429, 429])
  },

  async 'callbacks are told of each request and its key' (t, { register }) {
    const app = newApp(t)
    const told: string[] = []
    await register(app, {
      max: 1,
      timeWindow: LONG,
      onExceeding: (request, key) => {
        told.push(`exceeding ${request.method} ${key}`)
      },
      onExceeded: (request, key) => {
        told.push(`exceeded ${request.method} ${key}`)
      }
    })
    app.get('/', async () => 'ok')
    app.get(
      '/own',
      {
        config: {
          rateLimit: {
            onExceeding: () => {
              told.push('own')
            }
          }
        }
      },
      async () => 'ok'
    )
    await statuses(app, 2, '/')
    await app.inject('/own')
    t.same(told, ['exceeding GET 127.0.0.1', 'exceeded GET 127.0.0.1', 'own'])
  },

  async "an answer of one's own" (t, { register }) {
    const app = newApp(t)
    await register(app, {
      max: 1,
      ban: 1,
      timeWindow: LONG,
      errorResponseBuilder: (request, { statusCode, ban, after, max, ttl }) => ({
        statusCode,
        url: request.url,
        ban,
        after,
        max,
        isExact: Number.isInteger(ttl) && ttl > 0 && ttl <= LONG
      })
    })
    app.setErrorHandler((error, request, reply) =>
      reply.code((error as { statusCode: number }).statusCode).send({ ...(error as object) })
    )
    app.get('/', async () => 'ok')
    await app.inject('/')
    t.same((await app.inject('/')).json(), {
      statusCode: 429,
      url: '/',
      ban: false,
      after: '10 minutes',
      max: 1,
      isExact: true
    })
    t.match((await app.inject('/')).json(), { statusCode: 403, ban: true })
  },

  async "the error goes through the application's handler" (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 0, timeWindow: LONG })
    app.setErrorHandler((error, request, reply) => reply.code(418).send((error as { statusCode: number }).statusCode))
    app.get('/', async () => 'ok')
    t.match(await app.inject('/'), { statusCode: 418, body: '429' })
  },

  async 'names of the draft, and headers left out' (t, { register }) {
    const app = newApp(t)
    await register(app, {
      max: 1,
      timeWindow: LONG,
      enableDraftSpec: true,
      addHeaders: { 'ratelimit-limit': false, 'retry-after': false },
      addHeadersOnExceeding: { 'ratelimit-remaining': false }
    })
    app.get('/', async () => 'ok')
    const [admitted, refused] = [await app.inject('/'), await app.inject('/')]
    t.match(admitted.headers, { 'ratelimit-limit': '1', 'ratelimit-reset': '600' })
    for (const name of ['ratelimit-remaining', 'x-ratelimit-limit', 'x-ratelimit-remaining']) {
      t.notOk(name in admitted.headers, name)
    }
    t.match([refused.statusCode, refused.headers], [429, { 'ratelimit-remaining': '0', 'ratelimit-reset': /\d/ }])
    for (const name of ['ratelimit-limit', 'retry-after']) t.notOk(name in refused.headers, name)
  },

  async 'in a later hook it sees what earlier ones found out' (t, { register }) {
    const app = newApp(t)
    app.decorateRequest('userId', '')
    await register(app, {
      hook: 'preHandler',
      max: 1,
      timeWindow: LONG,
      keyGenerator: request => (request as unknown as { userId: string }).userId
    })
    app.addHook('preHandler', async request => {
      ;(request as unknown as { userId: string }).userId = String((request.body as { user: string }).user)
    })
    app.post('/', async () => 'ok')
    for (const [user, status] of [
      ['a', 200],
      ['a', 429],
      ['b', 200]
    ] as const) {
      t.equal((await app.inject({ method: 'POST', url: '/', payload: { user } })).statusCode, status)
    }
  },

  async 'the hooks a route has already are kept, and come first' (t, { register }) {
    const app = newApp(t)
    const order: string[] = []
    await register(app, {
      max: 1,
      timeWindow: LONG,
      onExceeding: () => {
        order.push('limit')
      }
    })
    app.get(
      '/one',
      {
        onRequest: async () => {
          order.push('own')
        }
      },
      async () => 'ok'
    )
    app.get(
      '/list',
      {
        config: { rateLimit: {} },
        onRequest: [
          async () => {
            order.push('own')
          }
        ]
      },
      async () => 'ok'
    )
    await app.inject('/one')
    await app.inject('/list')
    t.same(order, ['own', 'limit', 'own', 'limit'])
  },

  async 'unknown URLs, where the application asks for it' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 2, timeWindow: LONG })
    app.setNotFoundHandler({ preHandler: app.rateLimit() }, (request, reply) => {
      reply.code(404).send('nothing')
    })
    t.same(await statuses(app, 3, '/nothing'), [404, 404, 429])
    t.equal((await app.inject('/else')).statusCode, 429)
  },

  async 'unknown URLs with a limit of their own' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 5, timeWindow: LONG })
    app.get('/', async () => 'ok')
    app.setNotFoundHandler({ preHandler: app.rateLimit({ max: 1 }) }, (request, reply) => {
      reply.code(404).send('nothing')
    })
    t.same(await statuses(app, 2, '/nothing'), [404, 429])
    t.equal((await app.inject('/')).statusCode, 200)
  },

  async 'as a hook of one route, with options of its own' (t, { register }) {
    const app = newApp(t)
    await register(app, { global: false })
    app.get('/', { preHandler: app.rateLimit({ max: 1, timeWindow: LONG }) }, async () => 'ok')
    t.same(await statuses(app, 2, '/'), [200, 429])
  },

  async 'a request is counted once, however often it is asked about' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 2, timeWindow: LONG })
    app.get('/', { preHandler: [app.rateLimit(), app.rateLimit()] }, async () => 'ok')
    t.equal((await app.inject('/')).headers['x-ratelimit-remaining'], '1')
  },

  async 'HEAD is limited' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 1, timeWindow: LONG })
    app.get('/', { config: { rateLimit: {} } }, async () => 'ok')
    t.equal((await app.inject({ method: 'HEAD', url: '/' })).statusCode, 200)
    t.equal((await app.inject({ method: 'HEAD', url: '/' })).statusCode, 429)
  },

  async 'several methods of one route share its budget' (t, { register }) {
    const app = newApp(t)
    await register(app, { global: false })
    app.route({
      method: ['PUT', 'POST'],
      url: '/',
      config: { rateLimit: { keyGenerator: () => 'k', max: 5, timeWindow: LONG } },
      handler: async () => 'ok'
    })
    t.equal((await app.inject({ method: 'POST', url: '/' })).headers['x-ratelimit-remaining'], '4')
    t.equal((await app.inject({ method: 'PUT', url: '/' })).headers['x-ratelimit-remaining'], '3')
  },

  async 'it stays in the part of the application it was registered in' (t, { register }) {
    const app = newApp(t)
    app.get('/outside', async () => 'ok')
    await app.register(
      async part => {
        await register(part, { max: 1, timeWindow: LONG })
        part.get('/', async () => 'ok')
      },
      { prefix: '/inside' }
    )
    t.same(await statuses(app, 2, '/inside'), [200, 429])
    t.same(await statuses(app, 2, '/outside'), [200, 200])
    t.equal(app.hasDecorator('createRateLimit'), false)
  },

  async 'two parts with a space each have budgets of their own' (t, { register }) {
    const app = newApp(t)
    for (const prefix of ['/a', '/b']) {
      await app.register(
        async part => {
          await register(part, { max: 1, timeWindow: LONG })
          part.get('/', async () => 'ok')
        },
        { prefix }
      )
    }
    t.same(await statuses(app, 2, '/a'), [200, 429])
    t.same(await statuses(app, 2, '/b'), [200, 429])
  },

  async 'processes that share a Redis and a space share budgets, of the whole and of each route' (
    t,
    { register, isRedis }
  ) {
    const space = newSpace()
    const apps = [newApp(t), newApp(t)] as const
    for (const app of apps) {
      await register(app, { max: 2, ban: 1, timeWindow: LONG }, space)
      app.get('/', async () => 'ok')
      app.get('/own', { config: { rateLimit: { max: 1 } } }, async () => 'ok')
      t.equal((await app.inject('/')).statusCode, 200)
    }
    const codes = [
      ...(await statuses(apps[0], 1, '/')),
      ...(await statuses(apps[1], 1, '/')),
      ...(await statuses(apps[0], 1, '/'))
    ]
    t.same(codes, isRedis ? [429, 403, 403] : [200, 200, 429])
    t.same(
      [...(await statuses(apps[0], 1, '/own')), ...(await statuses(apps[1], 1, '/own'))],
      [200, isRedis ? 429 : 200]
    )
  },

  async 'createRateLimit answers instead of refusing' (t, { register }) {
    const app = newApp(t)
    await register(app, { global: false, max: 2, ban: 1, timeWindow: LONG, allowList: ['192.0.2.7'] })
    const limit = app.createRateLimit()
    app.get('/', async request => await limit(request))
    const answers = []
    for (let i = 0; i < 4; i++) answers.push((await app.inject('/')).json())
    t.match(answers, [
      {
        isAllowed: false,
        key: '127.0.0.1',
        max: 2,
        timeWindow: LONG,
        remaining: 1,
        isExceeded: false,
        isBanned: false
      },
      { remaining: 0, isExceeded: false, isBanned: false },
      { remaining: 0, isExceeded: true, isBanned: false },
      { remaining: 0, isExceeded: true, isBanned: true }
    ])
    for (const { ttl, ttlInSeconds } of answers) {
      t.ok(ttl > 0 && ttl <= LONG)
      t.equal(ttlInSeconds, Math.ceil(ttl / 1000))
    }
    t.same((await app.inject(from('/', '192.0.2.7'))).json(), { isAllowed: true, key: '192.0.2.7' })
  },

  async 'createRateLimit with options: another limit, another budget' (t, { register }) {
    const app = newApp(t)
    await register(app, { max: 5, timeWindow: LONG })
    const limit = app.createRateLimit({ max: 1, timeWindow: '1 hour', keyGenerator: () => 'all', ban: 0 })
    app.get('/', async request => await limit(request))
    t.match((await app.inject('/')).json(), {
      key: 'all',
      max: 1,
      timeWindow: 3_600_000,
      remaining: 0,
      isExceeded: false
    })
    const second = await app.inject('/')
    t.match(second.json(), { isExceeded: true, isBanned: true })
    t.equal(second.headers['x-ratelimit-remaining'], '3')
  },

  async 'looking without counting' (t, { register }) {
    const app = newApp(t)
    await register(app, { global: false, max: 2, timeWindow: LONG })
    const limit = app.createRateLimit()
    app.get('/look', async request => await limit(request, { increment: false }))
    app.get('/', async request => await limit(request))
    t.match((await app.inject('/look')).json(), { remaining: 2, ttl: 0, isExceeded: false })
    await app.inject('/')
    for (let i = 0; i < 3; i++) t.match((await app.inject('/look')).json(), { remaining: 1, isExceeded: false })
    await app.inject('/')
    const full = (await app.inject('/look')).json()
    t.match(full, { remaining: 0, isExceeded: false })
    t.ok(full.ttl > 0 && full.ttl <= LONG)
    t.match((await app.inject('/')).json(), { isExceeded: true })
  },

  async 'looking at limits of none and of no end' (t, { register }) {
    const app = newApp(t)
    await register(app, { global: false, max: 0, timeWindow: LONG })
    const [none, endless] = [app.createRateLimit(), app.createRateLimit({ max: () => Infinity })]
    app.get('/none', async request => await none(request, { increment: false }))
    app.get(
      '/endless',
      async request => ((await endless(request, { increment: false })) as { isExceeded: boolean }).isExceeded
    )
    t.match((await app.inject('/none')).json(), { max: 0, remaining: 0, isExceeded: false })
    t.equal((await app.inject('/endless')).json(), false)
  }
}

for (const subject of subjectsOn(redis)) {
  t.test(subject.name, async t => {
    for (const [name, behaviour] of Object.entries(behaviours)) {
      await t.test(name, async t => {
        await behaviour(t, subject)
      })
    }
  })
}

t.test('a store that fails: an error, or skipped', async t => {
  const nowhere = new Redis(await freePort(), {
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    lazyConnect: true,
    retryStrategy: null
  })
  nowhere.on('error', () => {
    /* nobody is there */
  })
  t.teardown(() => {
    nowhere.disconnect()
  })
  for (const skipOnError of [false, true]) {
    const apps = [newApp(t), newApp(t), newApp(t)] as const
    const settings = { max: 1, timeWindow: LONG, skipOnError }
    await apps[0].register(fastifyRateLimit, { ...settings, redis: nowhere })
    await apps[1].register(fastifyRateLimit, {
      ...settings,
      store: slidingWindowStore({ redis: nowhere, onFailure: 'closed' })
    })
    await apps[2].register(rateLimit, {
      rules: {},
      fastifyRateLimit: settings,
      store: { redis: nowhere, onFailure: 'closed' }
    })
    const errors: number[] = []
    for (const app of apps) {
      app.get('/', async () => 'ok')
      errors.push(...(await statuses(app, 2, '/')))
    }
    t.same(errors, skipOnError ? new Array(6).fill(200) : [500, 500, 503, 503, 503, 503])
  }
})

import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ANONYMOUS, problemErrorHandler, useGuard, type Principal, type SecurityRule } from '@marty/core'
import { presets, rateLimit, type LimitRule, type RateLimitOptions, type RouteLimit } from '@marty/rate-limit'
import type { ScriptClient } from '@marty/redis'
import { startRedis } from './redis-server.js'

const HOUR = 3_600_000
const user = (id: string, over: Partial<Principal> = {}): Principal => ({
  ...ANONYMOUS,
  id,
  kind: 'user',
  authenticatedBy: 'jwt',
  ...over
})

const redis = await startRedis(t)
let prefixes = 0

/** Counts the calls that decide. Reports for operators, which are sent every second, are not counted. */
function spyOn (inner: ScriptClient): ScriptClient & { commands: number } {
  const spy = {
    commands: 0,
    evalsha: (...args: Parameters<ScriptClient['evalsha']>) => inner.evalsha(...args),
    eval: (...args: Parameters<ScriptClient['eval']>) => inner.eval(...args),
    callBuffer: (...args: Parameters<ScriptClient['callBuffer']>) => {
      spy.commands++
      return inner.callBuffer(...args)
    }
  }
  return spy
}

/** An application that believes the credential: JSON of a principal. */
async function build (
  t: Test,
  options: RateLimitOptions,
  server: FastifyServerOptions = { trustProxy: '127.0.0.1' }
): Promise<FastifyInstance> {
  const app = Fastify(server) as unknown as FastifyInstance
  t.teardown(() => app.close())
  app.setErrorHandler(problemErrorHandler)
  await app.register(rateLimit, options)
  useGuard(app).addAuthenticator({
    method: 'jwt',
    find: ({ headers }) => headers.authorization ?? null,
    accepts: () => true,
    authenticate: async token => user('', JSON.parse(token) as Partial<Principal>)
  })
  return app
}

function route (
  app: FastifyInstance,
  url: string,
  limits: readonly RouteLimit[],
  rule: SecurityRule = { public: true }
): void {
  app.get(url, { config: { security: { ...rule, limits } } }, async () => 'ok')
}

async function stopOf (
  t: Test,
  options: RateLimitOptions,
  ...limits: readonly unknown[]
): Promise<{ code?: string; message?: string }> {
  try {
    const app = await build(t, options)
    for (const [i, own] of limits.entries()) route(app, `/r/${i}`, own as readonly RouteLimit[])
    await app.ready()
    return {}
  } catch (error) {
    return error as { code: string; message: string }
  }
}

const r: LimitRule = { limit: 10, windowMs: 1000, by: 'address' }

t.test('what cannot be enforced stops the start, by name', async t => {
  const options: Array<[unknown, RegExp]> = [
    [{ rules: { a: 'logn' } }, /"rules\.a" must be "default", "tiers", .* or an object .*did you mean "login"/],
    [{ rules: { a: 'constructor' } }, /"rules\.a" must be "default", "tiers", .* or an object/],
    [
      { rules: { a: { ...r, burst: { limit: 11, windowMs: 100 } } } },
      /"rules\.a\.burst\.limit" is 11, above the rule's own limit \(10\)/
    ],
    [
      { rules: { a: { ...r, burst: { limit: 5, windowMs: 1000 } } } },
      /"rules\.a\.burst\.windowMs" is 1000, not shorter than the rule's own window/
    ],
    [
      { rules: { a: { ...r, burst: { limit: 0, windowMs: 100 } } } },
      /"rules\.a\.burst\.limit" must be an integer from 1/
    ],
    [{ rules: { a: { ...r, burst: { limit: 1 } } } }, /"rules\.a\.burst\.windowMs" is required; it must be an integer/],
    [
      { rules: { a: { ...r, burst: { limit: 1, window: 5 } } } },
      /"rules\.a\.burst\.window" is not known; did you mean "windowMs"/
    ],
    [{ rules: { a: { ...r, burst: 5 } } }, /"rules\.a\.burst" must be an object \{ limit, windowMs \}, not 5/],
    [
      { rules: { a: { ...r, cost: 4, burst: { limit: 3, windowMs: 100 } } } },
      /"rules\.a\.burst\.limit" is 3, less than the cost of one call \(4\)/
    ],
    [
      { rules: { a: { ...r, limit: { default: 9, admin: 3 }, burst: { limit: 5, windowMs: 100 } } } },
      /burst\.limit" is 5, above the rule's own limit \(3\) of the role "admin"/
    ],
    [
      { rules: { a: { ...r, limit: 3, burst: { limit: { default: 2, admin: 5 }, windowMs: 100 } } } },
      /burst\.limit" is 5, above the rule's own limit \(3\) of the role "admin"/
    ],
    [
      { rules: { a: { ...r, burst: { limit: 1, windowMs: 10 } }, 'a.burst': r } },
      /"rules\.a\.burst" has the name "a\.burst", which another rule has already/
    ],
    [
      { rules: { 'a.burst': r, a: { ...r, burst: { limit: 1, windowMs: 10 } } } },
      /"rules\.a" has a burst, which is the rule "a\.burst", but another rule has that name/
    ],
    [{ rules: { a: { ...r, onFailure: 'close' } } }, /"rules\.a\.onFailure" .*not "close"; did you mean "closed"/],
    [{ rules: { login: 'login' }, apply: { http: ['login'] } }, /"apply\.http" names "login", which counts by account/],
    [
      { rules: { login: 'login' }, onAuthenticationFailure: ['login'] },
      /"onAuthenticationFailure" names "login", which counts by account/
    ],
    [{ rules: { a: r }, tenantClaim: '' }, /"tenantClaim" must be the name of a claim, not an empty string/],
    [{ rules: { a: r }, headers: 'legcy' }, /"headers" .*not "legcy"; did you mean "legacy"/]
  ]
  for (const [bad, message] of options) {
    t.match(
      await stopOf(t, bad as RateLimitOptions),
      { code: 'MARTY_RATE_LIMIT_OPT_INVALID', message },
      String(message)
    )
  }

  const limits: Array<[unknown[], RegExp]> = [
    [[[{ ...r, limit: 0 }]], /route GET \/r\/0: .*"security\.limits\[0\]\.limit" must be an integer/],
    [[[{ ...r, limit: { default: 5, admin: 0 } }]], /"security\.limits\[0\]\.limit\.admin" must be an integer/],
    [[['a', { ...r, lmit: 5 }]], /"security\.limits\[1\]\.lmit" is not known; did you mean "limit"/],
    [[[{ ...r, cost: 11 }]], /"security\.limits\[0\]\.limit" is 10, less than the cost of one call/],
    [[[{ ...r, burst: { limit: 11, windowMs: 5 } }]], /"security\.limits\[0\]\.burst\.limit" is 11, above/],
    [[[{ ...r, by: 'ip' }]], /"security\.limits\[0\]\.by" must be "address",/],
    [[[[r]]], /"security\.limits\[0\]\.0" is not known/],
    [[[{}]], /"security\.limits\[0\]\.limit" is required.*\n.*"security\.limits\[0\]\.windowMs" is required/],
    [[[{ ...r, windowMs: -1 }]], /"security\.limits\[0\]\.windowMs" .*not -1/],
    [[[r, { ...r }]], /"security\.limits\[1\]" has the name "GET-r-0", which another rule has already/],
    [[[{ ...r, name: 'a' }]], /"security\.limits\[0\]" has the name "a", which another rule has already/],
    [[[{ ...r, name: 'x' }], [{ ...r, name: 'x' }]], /route GET \/r\/1: .*has the name "x", which another/],
    [[[{ ...r, name: 'x"' }]], /"security\.limits\[0\]\.name" must be a letter, then letters, .*, not "x\\""/],
    [[[{ ...r, name: '' }]], /"security\.limits\[0\]\.name" must be a letter, .*, not an empty string/],
    [[[{ ...r, by: 'account' }]], /only the handler knows the account: charge it there/],
    [[['login']], /names "login", which counts by account\+address; only the handler knows/],
    [[['bursty.burst']], /names "bursty\.burst", which is the burst of "bursty" and comes with it; name "bursty"/],
    [[['a', { rule: 'a', cost: 2 }]], /names "a" twice/],
    [[[{ rule: 'A', cost: 2 }]], /names "A".*did you mean "a"/],
    [[[{ rule: 'a', cost: 11 }]], /"security\.limits\[0\]\.cost" is 11, above the limit of "a" \(10\)/],
    [[[{ rule: 'a', cost: 0 }]], /"security\.limits\[0\]\.cost" must be an integer from 1 to 1000000, not 0/],
    [[[{ rule: 'a', cost: '1' }]], /"security\.limits\[0\]\.cost" must be an integer/],
    [[[{ rule: 'a' }]], /"security\.limits\[0\]\.cost" is required/],
    [[[{ rule: 'a', price: 1 }]], /"security\.limits\[0\]\.price" is not known; known are rule, cost/],
    [[[{ rule: 'bursty', cost: 3 }]], /"security\.limits\[0\]\.cost" is 3, above the limit of "bursty\.burst" \(2\)/],
    [[[null]], /names "null"/],
    [[[5]], /names "5"/],
    [['a'], /must be a list of rule names and rules, \{ only: \[...\] \} with at least one of them, or false/]
  ]
  for (const [bad, message] of limits) {
    t.match(
      await stopOf(
        t,
        {
          rules: {
            a: r,
            login: 'login',
            bursty: { ...r, limit: { default: 9 }, burst: { limit: { default: 2 }, windowMs: 100 } }
          }
        },
        ...bad
      ),
      { code: 'MARTY_CORE_RULE_INVALID', message },
      String(message)
    )
  }
})

t.test('every preset starts, and says what it is', async t => {
  const app = await build(t, {
    rules: {
      ...Object.fromEntries(Object.keys(presets).map(name => [name, name as keyof typeof presets])),
      strict: { ...presets.login, limit: 3 }
    }
  })
  t.match(await app.limiter.check({ address: null }, ['default']), { quotas: [{ limit: 60, windowMs: 60_000 }] })
  t.match(await app.limiter.check({ address: null, principal: user('a', { roles: ['admin'] }) }, ['default']), {
    quotas: [{ limit: 300 }]
  })
  t.match(await app.limiter.check({ address: null, principal: user('a', { roles: ['pro'] }) }, ['tiers']), {
    quotas: [
      { rule: 'tiers', limit: 600 },
      { rule: 'tiers.burst', limit: 60, windowMs: 1000 }
    ]
  })
  t.match(await app.limiter.check({ address: null, account: 'a' }, ['login', 'strict']), {
    quotas: [{ limit: 5, windowMs: 300_000 }, { limit: 3 }]
  })
  t.match(await app.limiter.check({ address: null }, ['register', 'upload', 'search']), {
    quotas: [
      { limit: 3, windowMs: HOUR },
      { limit: 10, windowMs: HOUR },
      { limit: 100, windowMs: 300_000 }
    ]
  })
})

for (const place of ['memory', 'redis'] as const) {
  const store = async (): Promise<Pick<RateLimitOptions, 'store'>> =>
    place === 'memory' ? {} : { store: { redis: await redis.connect(), prefix: `t${++prefixes}` } }

  t.test(`${place}: a burst is a second window of the same calls, under a name of its own`, async t => {
    const app = await build(t, {
      rules: { reads: { limit: 4, windowMs: HOUR, by: 'address', burst: { limit: 2, windowMs: HOUR / 2 } } },
      ...(await store())
    })
    route(app, '/', ['reads'])
    await app.inject('/')
    t.match((await app.inject('/')).headers, {
      'ratelimit-policy': '"reads";q=4;w=3600, "reads.burst";q=2;w=1800',
      ratelimit: /^"reads\.burst";r=0;t=1800$/
    })
    const refused = await app.inject('/')
    t.match(refused.json(), { status: 429, 'violated-policies': ['reads.burst'] })
    t.match(await app.limiter.check({ address: '127.0.0.1' }, ['reads']), { allowed: false, violated: ['reads.burst'] })
  })

  t.test(`${place}: an operation has its price and its own rules`, async t => {
    const app = await build(t, {
      rules: { units: { limit: 10, windowMs: HOUR, by: 'address' } },
      apply: { http: ['units'] },
      ...(await store())
    })
    route(app, '/dear', [{ rule: 'units', cost: 6 }])
    route(app, '/own/:id', [
      { limit: 2, windowMs: HOUR, by: 'address' },
      { name: 'second', limit: 3, windowMs: HOUR, by: 'global' }
    ])
    t.match((await app.inject('/dear')).headers, { ratelimit: /^"units";r=4;/ })
    t.match((await app.inject('/dear')).json(), { status: 429, 'violated-policies': ['units'] })
    t.match(
      (await app.inject('/own/1')).headers,
      {
        'ratelimit-policy': /^"units";q=10;w=3600, "GET-own-id";q=2;w=3600, "second";q=3;w=3600$/,
        ratelimit: /^"GET-own-id";r=1;/
      },
      'a refusal of six units says nothing of one'
    )
    t.equal((await app.inject({ url: '/own/2', method: 'HEAD' })).statusCode, 200)
    t.match(
      (await app.inject('/own/3')).json(),
      { status: 429, 'violated-policies': ['GET-own-id'] },
      'HEAD is the same operation'
    )
  })

  t.test(`${place}: nobody is counted as another, whatever the names`, async t => {
    const rules = Object.fromEntries(
      (['principal', 'tenant', 'apiKey', 'account', 'account+address'] as const).map(by => [
        by.replace('+', '-'),
        { limit: 1, windowMs: HOUR, by }
      ])
    )
    const app = await build(t, { rules, tenantClaim: 'org', ...(await store()) })
    const names = [
      'a',
      'a:',
      ':a',
      '1:a',
      'a b',
      'a{b}',
      'a}',
      'a\nb',
      'a\0b',
      'address:192.0.2.1',
      '192.0.2.1',
      'tenant:1:a',
      'user:1:a',
      'ä',
      'x'.repeat(160),
      'x'.repeat(161),
      'x'.repeat(1_000_000),
      '__proto__'
    ]
    const allowed = async (rule: string, who: Parameters<typeof app.limiter.check>[0]): Promise<boolean> =>
      (await app.limiter.check(who, [rule])).allowed
    for (const name of names) {
      const shown = JSON.stringify(name.slice(0, 20))
      for (const expected of [true, false]) {
        t.equal(await allowed('principal', { address: null, principal: user(name) }), expected, `principal ${shown}`)
        t.equal(
          await allowed('principal', { address: null, principal: user(name, { kind: 'service' }) }),
          expected,
          `service ${shown}`
        )
        t.equal(
          await allowed('tenant', { address: null, principal: user(`of ${name}`, { claims: { org: name } }) }),
          expected,
          `tenant ${shown}`
        )
        t.equal(await allowed('tenant', { address: null, principal: user(name) }), expected, `no tenant ${shown}`)
        t.equal(
          await allowed('apiKey', { address: null, principal: user(name, { kind: 'key' }) }),
          expected,
          `key ${shown}`
        )
        t.equal(
          await allowed('account', { address: `192.0.2.${expected ? 7 : 8}`, account: name }),
          expected,
          `account ${shown}`
        )
        t.equal(
          await allowed('account-address', { address: '192.0.2.1', account: name }),
          expected,
          `account+address ${shown}`
        )
        t.equal(
          await allowed('account-address', { address: '192.0.2.2', account: name }),
          expected,
          'somebody elsewhere is not locked out'
        )
      }
      t.match(
        await app.limiter.check({ address: null, principal: user(name) }, ['apiKey']),
        { allowed: true, quotas: [] },
        'no API key, not counted'
      )
    }
    for (const org of ['', 5, null, ['a'], { a: 1 }]) {
      t.equal(
        await allowed('tenant', {
          address: null,
          principal: user(`claim ${JSON.stringify(org)}`, { claims: { org } })
        }),
        true,
        'what is no name is no tenant'
      )
    }
    t.equal(
      await allowed('tenant', { address: null, principal: user('other', { claims: { org: 'a' } }) }),
      false,
      'a tenant is one budget'
    )
    for (const account of [undefined, '']) {
      await t.rejects(
        app.limiter.check({ address: null, ...(account === undefined ? {} : { account }) }, ['account']),
        { code: 'MARTY_CORE_RULE_INVALID', message: /needs an account, by which the rule "account" counts/ }
      )
    }
  })

  t.test(
    `${place}: over real connections, without a trusted proxy a forged address is nothing, with one it counts`,
    async t => {
      for (const [trustProxy, expected] of [
        [false, [200, 429, 429]],
        ['127.0.0.1', [200, 200, 429]],
        ['10.0.0.0/8', [200, 429, 429]]
      ] as const) {
        const app = await build(
          t,
          { rules: { a: { limit: 1, windowMs: HOUR, by: 'address' } }, apply: { http: ['a'] }, ...(await store()) },
          { trustProxy }
        )
        route(app, '/', [])
        await app.listen({ host: '127.0.0.1', port: 0 })
        const get = async (forwarded: string): Promise<number> =>
          await new Promise((resolve, reject) => {
            httpRequest(
              { port: (app.server.address() as AddressInfo).port, headers: { 'x-forwarded-for': forwarded } },
              response => {
                response.resume()
                resolve(response.statusCode ?? 0)
              }
            )
              .on('error', reject)
              .end()
          })
        const statuses: number[] = []
        for (const forwarded of ['203.0.113.1', '203.0.113.2', '198.51.100.99, 203.0.113.2']) {
          statuses.push(await get(forwarded))
        }
        t.same(statuses, expected, String(trustProxy))
        t.equal(
          await get(`${'9'.repeat(8000)}:1}{`),
          trustProxy === '127.0.0.1' ? 200 : 429,
          'what is no address has the bucket of those without one'
        )
        t.equal(await get('nonsense'), 429)
      }
    }
  )

  t.test(`${place}: a role that changes within the window keeps its units, across both forms of it`, async t => {
    const app = await build(t, {
      rules: { calls: { limit: { default: 5, big: 500 }, windowMs: HOUR, by: 'principal' } },
      ...(await store())
    })
    const as = (...roles: string[]): Parameters<typeof app.limiter.check>[0] => ({
      address: null,
      principal: user('a', { roles })
    })
    t.match(await app.limiter.check(as(), ['calls'], 5), { allowed: true, quotas: [{ remaining: 0 }] })
    t.match(await app.limiter.check(as(), ['calls']), { allowed: false })
    t.match(
      await app.limiter.check(as('big'), ['calls'], 400),
      { allowed: true, quotas: [{ remaining: 95 }] },
      'what was taken before counts, what was refused does not hinder'
    )
    t.match(await app.limiter.check(as(), ['calls']), { allowed: false, quotas: [{ remaining: 0 }] })
    t.match(await app.limiter.check(as('big'), ['calls'], 96), { allowed: false })
    t.match(await app.limiter.check(as('big'), ['calls'], 95), { allowed: true })
  })
}

t.test('who is denied costs Redis nothing until the exact time, on every kind of rule', async t => {
  const spy = spyOn(await redis.connect())
  const clock = { ms: 1000 }
  const app = await build(t, {
    rules: Object.fromEntries(
      (['principal', 'tenant', 'global', 'principal+operation'] as const).map(by => [
        by.replace('+', '-'),
        { limit: 1, windowMs: HOUR, by }
      ])
    ),
    store: { redis: spy, prefix: 'deny', instances: 1 },
    now: () => clock.ms
  })
  const alice = JSON.stringify({ id: 'alice', claims: { tenant: 'acme' } })
  const rules = ['principal', 'tenant', 'global', 'principal-operation']
  for (const rule of rules) route(app, `/${rule}`, [rule], { authenticate: true })
  for (const rule of rules) {
    const get = async (): Promise<Awaited<ReturnType<typeof app.inject>>> =>
      await app.inject({ url: `/${rule}`, headers: { authorization: alice } })
    t.equal((await get()).statusCode, 200, rule)
    const before = spy.commands
    clock.ms += 1000
    for (let i = 0; i < 20; i++) {
      t.match((await get()).json(), { status: 429, retry_after_ms: HOUR - 1000, 'violated-policies': [rule] })
    }
    t.equal(spy.commands, before, rule)
    clock.ms += HOUR - 1000
    t.equal((await get()).statusCode, 429, 'then Redis is asked, and says for itself')
    t.equal(spy.commands, before + 1)
  }
})

t.test('while Redis is gone each rule does as it says: closed if any is, open ones are not counted', async t => {
  const dead = async (): Promise<never> => {
    throw new Error('gone')
  }
  const gone = { evalsha: dead, eval: dead, callBuffer: dead }
  const of = (onFailure?: 'local' | 'closed' | 'open'): LimitRule => ({
    limit: 2,
    windowMs: HOUR,
    by: 'address',
    ...(onFailure === undefined ? {} : { onFailure })
  })
  const app = await build(t, {
    rules: { local: of('local'), closed: of('closed'), open: of('open'), store: of() },
    store: { redis: gone, onFailure: 'open', instances: 2 }
  })
  const check = async (...rules: string[]): ReturnType<typeof app.limiter.check> =>
    await app.limiter.check({ address: '192.0.2.1' }, rules)
  await t.rejects(check('local', 'closed', 'open'), { code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE' })
  for (let i = 0; i < 5; i++) t.match(await check('open', 'store'), { allowed: true, degraded: true, quotas: [] })
  t.match(await check('open', 'local'), {
    allowed: true,
    degraded: true,
    quotas: [
      { rule: 'open', remaining: 2 },
      { rule: 'local', remaining: 0 }
    ]
  })
  t.match(await check('open', 'local'), { allowed: false, degraded: true, violated: ['local'] })
})

t.test('the fields clients want', async t => {
  const draft = ['ratelimit', 'ratelimit-policy']
  const legacy = ['x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset']
  for (const [headers, present] of [
    ['draft', draft],
    ['legacy', legacy],
    ['both', [...draft, ...legacy]],
    ['none', []]
  ] as const) {
    const app = await build(t, {
      rules: { a: { limit: 1, windowMs: 60_000, by: 'address' } },
      apply: { http: ['a'] },
      headers,
      now: () => 0
    })
    route(app, '/', [])
    for (const status of [200, 429, 429]) {
      const answer = await app.inject('/')
      t.equal(answer.statusCode, status)
      t.same(
        Object.keys(answer.headers)
          .filter(name => name.includes('ratelimit'))
          .sort(),
        [...present].sort(),
        headers
      )
      t.equal(answer.headers['retry-after'], status === 429 ? '60' : undefined)
      if (headers === 'legacy') {
        t.match(answer.headers, { 'x-ratelimit-limit': '1', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '60' })
      }
    }
  }
})

t.test("believing everybody's X-Forwarded-For is warned of at the start, trusting one proxy is not", async t => {
  for (const [trustProxy, expected] of [
    [true, 1],
    ['127.0.0.1', 0],
    [false, 0]
  ] as const) {
    const lines: string[] = []
    await build(
      t,
      { rules: { a: r } },
      {
        trustProxy,
        logger: {
          stream: {
            write: (line: string) => {
              lines.push(line)
            }
          }
        }
      }
    )
    t.equal(
      lines.filter(line => line.includes('every client chooses its own address')).length,
      expected,
      String(trustProxy)
    )
  }
})

t.test('on a cluster a refusal may be taken back, so the store is asked again within a second', async t => {
  const clock = { ms: 1000 }
  let room = false
  let asked = 0
  const evalsha = async (): Promise<unknown> => {
    asked++
    const reply = Buffer.alloc(7 + 1 + 15)
    if (room) reply[7] = 1
    else reply.writeUIntBE(HOUR * 1000, 17, 6)
    return reply
  }
  const app = await build(t, {
    rules: { a: { limit: 1, windowMs: HOUR, by: 'address' } },
    store: { redis: { evalsha, eval: evalsha, callBuffer: evalsha, isCluster: true } },
    now: () => clock.ms
  })
  const check = async (): ReturnType<typeof app.limiter.check> =>
    await app.limiter.check({ address: '192.0.2.1' }, ['a'])
  t.match(await check(), { allowed: false, retryAfterMs: HOUR })
  room = true
  clock.ms += 999
  t.match(await check(), { allowed: false, retryAfterMs: HOUR - 999 })
  t.equal(asked, 1)
  clock.ms += 1
  t.match(await check(), { allowed: true })
})

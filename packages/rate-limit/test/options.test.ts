import t from 'tap'
import Fastify from 'fastify'
import { rateLimit, type RateLimitOptions } from '@marty/rate-limit'
import type { SecurityRule } from '@marty/core'

const rule = { limit: 10, windowMs: 1000, by: 'address' } as const
const redis = { evalsha: async () => [], eval: async () => [], callBuffer: async () => [] }

async function refusal (options: unknown): Promise<{ code?: string; message?: string }> {
  const app = Fastify()
  try {
    await app.register(rateLimit, options as RateLimitOptions)
    return {}
  } catch (error) {
    return error as { code: string; message: string }
  } finally {
    await app.close()
  }
}

t.test('options that could not be enforced as written are refused by name', async t => {
  const bad: Array<[unknown, RegExp]> = [
    [{}, /rules must be an object/],
    [{ rules: { r: rule }, aply: {} }, /unknown member "aply"; did you mean "apply"/],
    [{ rules: { r: { ...rule, limit: 0 } } }, /rules\.r\.limit must be an integer from 1 to 1000000, not 0/],
    [{ rules: { r: { ...rule, limit: -5 } } }, /rules\.r\.limit .*not -5/],
    [{ rules: { r: { ...rule, limit: 1.5 } } }, /rules\.r\.limit .*not 1\.5/],
    [{ rules: { r: { ...rule, limit: '10' } } }, /rules\.r\.limit .*not "10"/],
    [{ rules: { r: { ...rule, limit: Infinity } } }, /rules\.r\.limit .*not Infinity/],
    [{ rules: { r: { ...rule, limit: { admin: 5 } } } }, /rules\.r\.limit needs a "default"/],
    [{ rules: { r: { ...rule, limit: { default: 5, admin: 0 } } } }, /rules\.r\.limit\.admin .*not 0/],
    [{ rules: { r: { ...rule, windowMs: 0 } } }, /rules\.r\.windowMs .*not 0/],
    [{ rules: { r: { ...rule, windowMs: -1 } } }, /rules\.r\.windowMs .*not -1/],
    [{ rules: { r: { limit: 1, by: 'address' } } }, /rules\.r\.windowMs .*not undefined/],
    [{ rules: { r: { ...rule, window: 5 } } }, /rules\.r has an unknown member "window"/],
    [{ rules: { r: { ...rule, by: 'adress' } } }, /rules\.r\.by is "adress".*did you mean "address"/],
    [{ rules: { r: { ...rule, cost: 11 } } }, /rules\.r\.limit is 10, less than the cost of one call \(11\)/],
    [{ rules: { r: { ...rule, cost: 0 } } }, /rules\.r\.cost .*not 0/],
    [{ rules: { r: { ...rule, lease: 'yes' } } }, /rules\.r\.lease must be an object/],
    [{ rules: { r: { ...rule, lease: { ttl: 5 } } } }, /rules\.r\.lease has an unknown member "ttl"/],
    [
      { rules: { r: { ...rule, lease: { share: 0.6 } } } },
      /rules\.r\.lease\.share must be a number above 0 and at most 0\.5, not 0\.6/
    ],
    [{ rules: { r: { ...rule, lease: { share: '0.1' } } } }, /rules\.r\.lease\.share .*not 0\.1/],
    [
      { rules: { r: { ...rule, lease: { ttlMs: 501 } } } },
      /rules\.r\.lease\.ttlMs must be a number from 5 to 500, not 501/
    ],
    [{ rules: { r: { ...rule, lease: { ttlMs: '50' } } } }, /rules\.r\.lease\.ttlMs .*not 50/],
    [{ rules: { 'a"b': rule } }, /rules\.a"b has an unusable name/],
    [{ rules: { r: null } }, /rules\.r must be an object/],
    [{ rules: { r: rule }, apply: { http: ['x'] } }, /apply\.http names "x", which is not one of the rules \(r\)/],
    [{ rules: { reads: rule }, apply: { rpc: ['raeds'] } }, /apply\.rpc names "raeds".*did you mean "reads"/],
    [{ rules: { r: rule }, apply: { http: ['r', 'r'] } }, /apply\.http names "r" twice/],
    [{ rules: { r: rule }, apply: { http: 'r' } }, /apply\.http must be a list/],
    [{ rules: { r: rule }, apply: { ws: [] } }, /apply has an unknown member "ws"/],
    [
      { rules: { r: { ...rule, by: 'principal' } }, onAuthenticationFailure: ['r'] },
      /onAuthenticationFailure names "r", which counts by principal/
    ],
    [{ rules: { r: rule }, maxKeys: 0 }, /maxKeys .*not 0/],
    [{ rules: { r: rule }, now: 5 }, /now must be a function/],
    [{ rules: { r: rule }, store: 'redis' }, /store must be "memory" or/],
    [{ rules: { r: rule }, store: {} }, /store\.redis must be a Redis client of ioredis/],
    [{ rules: { r: rule }, store: { redis, prefix: '{x}' } }, /store\.prefix/],
    [{ rules: { r: rule }, store: { redis, deadlineMs: 0 } }, /store\.deadlineMs .*not 0/],
    [{ rules: { r: rule }, store: { redis, onFailure: 'lokal' } }, /store\.onFailure is "lokal".*did you mean "local"/],
    [{ rules: { r: rule }, store: { redis, instances: 0 } }, /store\.instances .*not 0/],
    [{ rules: { r: rule }, store: { redis, timeout: 1 } }, /store has an unknown member "timeout"/]
  ]
  for (const [options, message] of bad) {
    const error = await refusal(options)
    t.equal(error.code, 'MARTY_RATE_LIMIT_OPT_INVALID', String(message))
    t.match(error.message, message)
  }
  t.same(await refusal({ rules: { r: rule }, store: { redis } }), {})
  const ofRegister = { prefix: '/v1', logLevel: 'warn', logSerializers: {} }
  t.same(await refusal({ rules: { r: rule }, ...ofRegister }), {}, "the options of Fastify's register are accepted")
})

t.test('a route that names an unknown limit stops the start', async t => {
  const cases: Array<[unknown, RegExp]> = [
    [['raeds'], /route GET \/x: security\.limits names "raeds".*did you mean "reads"/],
    [['reads', 'reads'], /names "reads" twice/],
    ['reads', /must be a list of rule names/],
    [true, /must be a list of rule names/]
  ]
  for (const [limits, message] of cases) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(rateLimit, { rules: { reads: rule } })
    app.get('/x', { config: { security: { public: true, limits } as SecurityRule } }, async () => 'ok')
    await t.rejects(async () => await app.ready(), { code: 'MARTY_CORE_RULE_INVALID', message })
  }
})

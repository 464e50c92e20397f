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
  const of = (over: object): object => ({ rules: { r: { ...rule, ...over } } })
  const and = (over: object): object => ({ rules: { r: rule, reads: rule }, ...over })
  const inherited = Object.create({ default: 5 }) as object
  const bad: Array<[unknown, RegExp]> = [
    [{}, /"rules" is required/],
    [and({ aply: {} }), /"aply" is not known; did you mean "apply"/],
    [and({ aply: undefined }), /"aply" is not known/],
    [{ rules: [rule] }, /"rules" must be an object/],
    [{ rules: { r: undefined } }, /"rules" has a member "r" that is undefined/],
    [{ rules: { r: null } }, /"rules\.r" must be .*an object \{ limit, windowMs, by, .*\}, not null/],
    [{ rules: { 'a"b': rule } }, /"rules\.a"b" has an invalid name: it must be a letter, then letters/],
    [{ rules: { [`a${'b'.repeat(64)}`]: rule } }, /has an invalid name/],
    [of({ limit: undefined }), /"rules\.r\.limit" is required/],
    [of({ limit: 0 }), /"rules\.r\.limit" must be an integer from 1 to 1000000 or an object.*, not 0/],
    [of({ limit: -5 }), /"rules\.r\.limit" .*not -5/],
    [of({ limit: 1.5 }), /"rules\.r\.limit" .*not 1\.5/],
    [of({ limit: 1_000_001 }), /"rules\.r\.limit" .*not 1000001/],
    [of({ limit: '10' }), /"rules\.r\.limit" must be an integer/],
    [of({ limit: Infinity }), /"rules\.r\.limit" .*not Infinity/],
    [of({ limit: null }), /"rules\.r\.limit" .*not null/],
    [of({ limit: [5] }), /"rules\.r\.limit" .*not a list/],
    [of({ limit: { admin: 5 } }), /"rules\.r\.limit" needs a "default"/],
    [of({ limit: inherited }), /"rules\.r\.limit" needs a "default"/],
    [of({ limit: { default: 5, admin: 0 } }), /"rules\.r\.limit\.admin" .*not 0/],
    [of({ limit: { default: 5, admin: null } }), /"rules\.r\.limit\.admin" .*not null/],
    [of({ limit: { default: 5, admin: undefined } }), /"rules\.r\.limit" has a member "admin" that is undefined/],
    [of({ limit: { default: undefined } }), /"rules\.r\.limit" has a member "default" that is undefined/],
    [of({ limit: { default: 5, admin: 1 }, cost: 2 }), /"rules\.r\.limit\.admin" is 1, less than the cost of one call/],
    [of({ windowMs: 0 }), /"rules\.r\.windowMs" .*not 0/],
    [of({ windowMs: -1 }), /"rules\.r\.windowMs" .*not -1/],
    [of({ windowMs: 367 * 86_400_000 }), /"rules\.r\.windowMs" .*to 31622400000, not/],
    [of({ windowMs: undefined }), /"rules\.r\.windowMs" is required; it must be an integer/],
    [of({ window: 5 }), /"rules\.r\.window" is not known; did you mean "windowMs"/],
    [of({ by: undefined }), /"rules\.r\.by" is required/],
    [of({ by: 'adress' }), /"rules\.r\.by" .*not "adress"; did you mean "address"/],
    [of({ by: ['address'] }), /"rules\.r\.by" .*not a list/],
    [of({ cost: 11 }), /"rules\.r\.limit" is 10, less than the cost of one call \(11\)/],
    [of({ cost: 0 }), /"rules\.r\.cost" .*not 0/],
    [of({ cost: null }), /"rules\.r\.cost" .*not null/],
    [of({ lease: 'yes' }), /"rules\.r\.lease" must be true, false or an object \{ share, ttlMs \}/],
    [of({ lease: null }), /"rules\.r\.lease" .*not null/],
    [of({ lease: { ttl: 5 } }), /"rules\.r\.lease\.ttl" is not known/],
    [of({ lease: { share: 0.6 } }), /"rules\.r\.lease\.share" must be a number above 0 and at most 0\.5, not 0\.6/],
    [of({ lease: { share: 0 } }), /"rules\.r\.lease\.share" .*not 0/],
    [of({ lease: { share: '0.1' } }), /"rules\.r\.lease\.share" .*not "0\.1"/],
    [of({ lease: { ttlMs: 501 } }), /"rules\.r\.lease\.ttlMs" must be a number from 5 to 500, not 501/],
    [of({ lease: { ttlMs: NaN } }), /"rules\.r\.lease\.ttlMs" .*not NaN/],
    [of({ lease: { ttlMs: '50' } }), /"rules\.r\.lease\.ttlMs" .*not "50"/],
    [and({ apply: null }), /"apply" must be an object \{ http, rpc \}, not null/],
    [and({ apply: { http: ['x'] } }), /"apply\.http" names "x", which is not one of the rules \(r, reads\)/],
    [and({ apply: { rpc: ['raeds'] } }), /"apply\.rpc" names "raeds".*did you mean "reads"/],
    [and({ apply: { http: ['r', 'r'] } }), /"apply\.http" names "r" twice/],
    [and({ apply: { http: 'r' } }), /"apply\.http" must be a list, each item the name of a rule/],
    [and({ apply: { http: [rule] } }), /"apply\.http\[0\]" must be the name of a rule/],
    [and({ apply: { ws: [] } }), /"apply\.ws" is not known; known are http, rpc/],
    [and({ onAuthenticationFailure: 'r' }), /"onAuthenticationFailure" must be a list/],
    [and({ onAuthenticationFailure: ['x'] }), /"onAuthenticationFailure" names "x"/],
    [
      { ...of({ by: 'principal' }), onAuthenticationFailure: ['r'] },
      /"onAuthenticationFailure" names "r", which counts by principal/
    ],
    [and({ maxKeys: 0 }), /"maxKeys" .*not 0/],
    [and({ maxKeys: 10_000_001 }), /"maxKeys" .*not 10000001/],
    [and({ now: 5 }), /"now" must be a function that returns milliseconds, not 5/],
    [and({ tenantClaim: 5 }), /"tenantClaim" must be the name of a claim, not 5/],
    [and({ headers: null }), /"headers" .*not null/],
    [and({ store: 'redis' }), /"store" must be "memory" or an object \{ redis, prefix, .*\}/],
    [and({ store: null }), /"store" must be "memory" or/],
    [and({ store: {} }), /"store\.redis" is required; it must be a Redis client of ioredis/],
    [and({ store: { redis: {} } }), /"store\.redis" must be a Redis client of ioredis, not an empty object/],
    [and({ store: { redis, prefix: '{x}' } }), /"store\.prefix" must be 1 to 64 letters/],
    [and({ store: { redis, prefix: 5 } }), /"store\.prefix" .*not 5/],
    [and({ store: { redis, deadlineMs: 0 } }), /"store\.deadlineMs" must be an integer from 1 to 60000, not 0/],
    [and({ store: { redis, onFailure: 'lokal' } }), /"store\.onFailure" .*not "lokal"; did you mean "local"/],
    [and({ store: { redis, instances: 0 } }), /"store\.instances" must be "auto" or an integer .*, not 0/],
    [and({ store: { redis, instances: 'many' } }), /"store\.instances" .*not "many"/],
    [and({ store: { redis, timeout: 1 } }), /"store\.timeout" is not known/]
  ]
  for (const [options, message] of bad) {
    const error = await refusal(options)
    t.equal(error.code, 'MARTY_RATE_LIMIT_OPT_INVALID', String(message))
    t.match(error.message, message)
  }
})

t.test('every problem is in one message', async t => {
  const { message } = await refusal({ rules: { r: { ...rule, limit: 0, by: 'ip' } }, maxKeys: 0, hedaers: 'both' })

  t.strictSame(message?.split('\n').map(line => /^rate-limit option "(\S+)" /.exec(line)?.[1]), [
    'hedaers', 'rules.r.limit', 'rules.r.by', 'maxKeys'
  ])
})

t.test('options that can be enforced are accepted', async t => {
  t.same(await refusal({ rules: {} }), {})
  t.same(await refusal({ rules: { r: rule }, store: { redis } }), {})
  t.same(await refusal({ rules: { r: { ...rule, cost: undefined, lease: {} } }, now: undefined, apply: {} }), {})
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

import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { useGuard } from '@marty/core'
import { health, type HealthOptions, type Probe } from '@marty/health'

const is = (status: 'healthy' | 'degraded' | 'unhealthy', details = 'measured'): Probe => async () => ({ status, details })

async function build (t: Test, options: HealthOptions): Promise<FastifyInstance> {
  const app = Fastify()
  // Strict: the routes must bring their own rule.
  useGuard(app, { strict: true })
  await app.register(health, options)
  t.teardown(() => app.close())
  return app
}

t.test('a probe that throws is unhealthy, and its message stays inside', async t => {
  const app = await build(t, {
    components: {
      async: async () => { throw new Error('connect ECONNREFUSED redis-7.internal:6379 password=hunter2') },
      sync: () => { throw new Error('secret') },
      ok: is('healthy')
    },
    groups: { system: ['async', 'sync', 'ok'] }
  })
  const answer = await app.inject('/health/system')
  t.equal(answer.statusCode, 503)
  t.match(answer.json(), {
    status: 'unhealthy',
    components: { async: { status: 'unhealthy', details: 'The check failed' }, sync: { status: 'unhealthy' }, ok: { status: 'healthy', details: 'measured' } }
  })
  t.notMatch(answer.body, /redis-7|hunter2|secret/)
})

t.test('a probe that hangs is unhealthy when its time is up, is told to stop, and is asked again later', async t => {
  let calls = 0
  const signals: AbortSignal[] = []
  const app = await build(t, {
    components: {
      hangs: async signal => {
        signals.push(signal)
        if (++calls > 1) return { status: 'healthy', details: 'back' }
        return await new Promise<never>(() => {})
      },
      obeys: async signal => await new Promise((resolve, reject) => { signal.addEventListener('abort', () => { reject(new Error('aborted')) }) })
    },
    timeoutMs: 20,
    cacheMs: 0
  })
  const { components } = await app.health.report()
  t.match(components, { hangs: { status: 'unhealthy', details: 'The check did not finish in time' }, obeys: { details: 'The check did not finish in time' } })
  t.equal(signals[0]?.aborted, true)
  t.match(await app.health.report(['hangs']), { status: 'healthy', components: { hangs: { details: 'back' } } })
})

t.test('a probe that answers nonsense is unhealthy', async t => {
  for (const nonsense of [null, {}, { status: 'fine', details: 'x' }, { status: 'healthy' }, 'healthy']) {
    const app = await build(t, { components: { c: (async () => nonsense) as unknown as Probe } })
    t.match(await app.health.report(), { status: 'unhealthy', components: { c: { details: 'The check failed' } } })
  }
})

t.test('ready: 503 while a component it needs is unhealthy or the service is draining; live never', async t => {
  let redis: 'healthy' | 'degraded' | 'unhealthy' = 'unhealthy'
  const app = await build(t, { components: { redis: async () => ({ status: redis, details: '' }), camera: is('unhealthy') }, ready: ['redis'], cacheMs: 0 })
  const status = async (url: string): Promise<number> => (await app.inject(url)).statusCode
  t.same([await status('/health/ready'), await status('/health/live')], [503, 200])
  redis = 'degraded'
  t.same([await status('/health/ready'), (await app.inject('/health/ready')).json().status], [200, 'degraded'])
  redis = 'healthy'
  t.match((await app.inject('/health/ready')).json(), { status: 'healthy', components: { redis: { status: 'healthy' }, service: { status: 'healthy' }, camera: undefined } })
  app.health.drain()
  t.equal(app.health.draining, true)
  t.same([await status('/health/ready'), await status('/health/live')], [503, 200])
  t.match((await app.inject('/health/ready')).json(), { status: 'unhealthy', components: { service: { status: 'unhealthy', details: 'Shutting down' } } })
})

t.test('live does not wait for anything', async t => {
  const app = await build(t, { components: { hangs: async () => await new Promise<never>(() => {}) }, timeoutMs: 60_000 })
  const answer = await app.inject('/health/live')
  t.match(answer.json(), { status: 'healthy', components: {} })
})

t.test('the overall status is the worst; degraded answers 200', async t => {
  const app = await build(t, { components: { a: is('healthy'), b: is('degraded'), c: is('unhealthy') }, groups: { ab: ['a', 'b'], abc: ['a', 'b', 'c'], a: ['a'], none: [] } })
  for (const [group, code, status] of [['a', 200, 'healthy'], ['ab', 200, 'degraded'], ['abc', 503, 'unhealthy'], ['none', 200, 'healthy']] as const) {
    const answer = await app.inject(`/health/${group}`)
    t.same([answer.statusCode, answer.json().status], [code, status], group)
    t.equal(answer.headers['cache-control'], 'no-store')
    const { timestamp } = answer.json()
    t.equal(new Date(timestamp).toISOString(), timestamp)
  }
  t.equal((await app.inject('/health/unknown')).statusCode, 404)
  t.equal((await app.inject({ method: 'HEAD', url: '/health/abc' })).statusCode, 503)
})

t.test('figures are for the programme, not for the network', async t => {
  const app = await build(t, { components: { c: async () => ({ status: 'healthy', details: 'ok', data: { host: 'redis-7.internal' } }) }, groups: { g: ['c'] } })
  t.match(await app.health.report(), { components: { c: { data: { host: 'redis-7.internal' } } } })
  t.notMatch((await app.inject('/health/g')).body, 'redis-7')
})

t.test('a hundred askers cost one question, and within the memory none', async t => {
  let calls = 0
  let release = (): void => {}
  const gate = new Promise<void>(resolve => { release = resolve })
  const app = await build(t, {
    components: { slow: async () => { calls++; await gate; return { status: 'healthy', details: '' } } },
    groups: { g: ['slow'] },
    cacheMs: 60_000
  })
  await app.ready()
  const answers = Promise.all(Array.from({ length: 100 }, async (_, i) => await app.inject(i % 2 === 0 ? '/health/g' : '/health/ready')))
  const polls = setInterval(() => { if (calls > 0) release() }, 1)
  t.ok((await answers).every(answer => answer.statusCode === 200))
  clearInterval(polls)
  t.equal(calls, 1)
  await app.inject('/health/g')
  t.equal(calls, 1)
})

t.test('closing drains', async t => {
  const app = await build(t, { components: {} })
  await app.ready()
  await app.close()
  t.equal(app.health.draining, true)
})

t.test('an unknown component is an error that names the near one', async t => {
  const app = await build(t, { components: { redis: is('healthy') } })
  await t.rejects(app.health.report(['reids']), { code: 'MARTY_HEALTH_COMPONENT_UNKNOWN', message: /did you mean "redis"/ })
})

t.test('options that cannot be meant are refused by name', async t => {
  const ok = is('healthy')
  const bad: Array<[unknown, RegExp]> = [
    [{}, /components must be an object/],
    [{ components: { a: 5 } }, /components\.a must be a function/],
    [{ components: { 'a b': ok } }, /components\.a b has an unusable name/],
    [{ components: { service: ok } }, /components\.service has an unusable name/],
    [{ components: { redis: ok }, ready: ['reids'] }, /ready names "reids".*did you mean "redis"/],
    [{ components: { redis: ok }, ready: 'redis' }, /ready must be a list/],
    [{ components: { redis: ok }, groups: { system: ['x'] } }, /groups\.system names "x"/],
    [{ components: {}, groups: { ready: [] } }, /groups\.ready has an unusable name/],
    [{ components: {}, groups: null }, /groups must be an object/],
    [{ components: {}, timeoutMs: 0 }, /timeoutMs must be a positive integer, not 0/],
    [{ components: {}, cacheMs: -1 }, /cacheMs .*not -1/],
    [{ components: {}, prefix: 'health/' }, /prefix must be a path/],
    [{ components: {}, timeoutMS: 5 }, /timeoutMS is not an option; did you mean "timeoutMs"/]
  ]
  for (const [options, message] of bad) {
    const app = Fastify()
    t.teardown(() => app.close())
    await t.rejects(async () => await app.register(health, options as HealthOptions), { code: 'MARTY_HEALTH_OPT_INVALID', message })
  }
})

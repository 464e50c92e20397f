import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { useGuard } from '@marty/core'
import { health, type HealthOptions, type HealthStatus, type Probe } from '@marty/health'

const is = (status: HealthStatus, details = 'measured'): Probe => async () => ({ status, details })

const FUNCTION = 'a function (signal) => Promise<{ status, details }>'
const LIST = 'a list, each item the name of a component'
const NAMES = 'letters, digits, "_" and "-", a letter first, and not'

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
    components: {
      async: { status: 'unhealthy', details: 'The check failed' },
      sync: { status: 'unhealthy' },
      ok: { status: 'healthy', details: 'measured' }
    }
  })
  t.notMatch(answer.body, /redis-7|hunter2|secret/)
})

t.test('a probe that hangs is unhealthy after its time limit, its signal aborts, and it is called again', async t => {
  let calls = 0
  const signals: AbortSignal[] = []
  const app = await build(t, {
    components: {
      hangs: async signal => {
        signals.push(signal)
        if (++calls > 1) return { status: 'healthy', details: 'back' }
        return await new Promise<never>(() => {})
      },
      obeys: async signal => await new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => { reject(new Error('aborted')) })
      })
    },
    timeoutMs: 20,
    cacheMs: 0
  })
  const { components } = await app.health.report()
  const details = 'The check did not finish in time'
  t.match(components, { hangs: { status: 'unhealthy', details }, obeys: { details } })
  t.equal(signals[0]?.aborted, true)
  t.match(await app.health.report(['hangs']), { status: 'healthy', components: { hangs: { details: 'back' } } })
})

t.test('a probe whose result is not a status is unhealthy', async t => {
  for (const nonsense of [null, {}, { status: 'fine', details: 'x' }, { status: 'healthy' }, 'healthy']) {
    const app = await build(t, { components: { c: (async () => nonsense) as unknown as Probe } })
    t.match(await app.health.report(), { status: 'unhealthy', components: { c: { details: 'The check failed' } } })
  }
})

t.test('ready: 503 while a component it needs is unhealthy or the service is draining; live never', async t => {
  let redis: 'healthy' | 'degraded' | 'unhealthy' = 'unhealthy'
  const app = await build(t, {
    components: { redis: async () => ({ status: redis, details: '' }), camera: is('unhealthy') },
    ready: ['redis'],
    cacheMs: 0
  })
  const status = async (url: string): Promise<number> => (await app.inject(url)).statusCode
  t.same([await status('/health/ready'), await status('/health/live')], [503, 200])
  redis = 'degraded'
  t.same([await status('/health/ready'), (await app.inject('/health/ready')).json().status], [200, 'degraded'])
  redis = 'healthy'
  const healthy = { status: 'healthy' }
  t.match((await app.inject('/health/ready')).json(), {
    status: 'healthy',
    components: { redis: healthy, service: healthy, camera: undefined }
  })
  app.health.drain()
  t.equal(app.health.draining, true)
  t.same([await status('/health/ready'), await status('/health/live')], [503, 200])
  t.match((await app.inject('/health/ready')).json(), {
    status: 'unhealthy',
    components: { service: { status: 'unhealthy', details: 'Shutting down' } }
  })
})

t.test('live does not wait for anything', async t => {
  const hangs = async (): Promise<never> => await new Promise<never>(() => {})
  const app = await build(t, { components: { hangs }, timeoutMs: 60_000 })
  const answer = await app.inject('/health/live')
  t.match(answer.json(), { status: 'healthy', components: {} })
})

t.test('the overall status is the worst; degraded answers 200', async t => {
  const app = await build(t, {
    components: { a: is('healthy'), b: is('degraded'), c: is('unhealthy') },
    groups: { ab: ['a', 'b'], abc: ['a', 'b', 'c'], a: ['a'], none: [] }
  })
  const cases = [
    ['a', 200, 'healthy'],
    ['ab', 200, 'degraded'],
    ['abc', 503, 'unhealthy'],
    ['none', 200, 'healthy']
  ] as const
  for (const [group, code, status] of cases) {
    const answer = await app.inject(`/health/${group}`)
    t.same([answer.statusCode, answer.json().status], [code, status], group)
    t.equal(answer.headers['cache-control'], 'no-store')
    const { timestamp } = answer.json()
    t.equal(new Date(timestamp).toISOString(), timestamp)
  }
  t.equal((await app.inject('/health/unknown')).statusCode, 404)
  t.equal((await app.inject({ method: 'HEAD', url: '/health/abc' })).statusCode, 503)
})

t.test('the data of a probe is in the report of the program, never in a response', async t => {
  const data = { host: 'redis-7.internal' }
  const app = await build(t, {
    components: { c: async () => ({ status: 'healthy', details: 'ok', data }) },
    groups: { g: ['c'] }
  })
  t.match(await app.health.report(), { components: { c: { data } } })
  t.notMatch((await app.inject('/health/g')).body, 'redis-7')
})

t.test('a hundred concurrent requests cost one measurement, later ones use the cache', async t => {
  let calls = 0
  let release = (): void => {}
  const gate = new Promise<void>(resolve => { release = resolve })
  const app = await build(t, {
    components: { slow: async () => { calls++; await gate; return { status: 'healthy', details: '' } } },
    groups: { g: ['slow'] },
    cacheMs: 60_000
  })
  await app.ready()
  const urls = Array.from({ length: 100 }, (_, i) => i % 2 === 0 ? '/health/g' : '/health/ready')
  const answers = Promise.all(urls.map(async url => await app.inject(url)))
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

t.test('a report on an unknown component fails and suggests the closest name', async t => {
  const app = await build(t, { components: { redis: is('healthy') } })
  await t.rejects(app.health.report(['reids']), {
    code: 'MARTY_HEALTH_COMPONENT_UNKNOWN',
    message: 'There is no component "reids"; did you mean "redis"?'
  })
})

t.test('invalid options stop the start, and the message names each', async t => {
  const ok = is('healthy')
  const components = { redis: ok }
  const refused: Array<[unknown, string | RegExp]> = [
    [{}, `"components" is required; it must be an object, each member ${FUNCTION}`],
    [{ components: { a: 5 } }, `"components.a" must be ${FUNCTION}, not 5`],
    [{ components: { 'a b': ok } }, `"components.a b" has an invalid name: it must be ${NAMES} "service"`],
    [{ components: { service: ok } }, `"components.service" has an invalid name: it must be ${NAMES} "service"`],
    [{ components, ready: ['reids'] }, '"ready" names "reids", which is not a component; did you mean "redis"?'],
    [{ components, ready: 5 }, `"ready" must be ${LIST}, not 5`],
    [{ components, groups: { system: ['x'] } }, '"groups.system" names "x", which is not a component; known are redis'],
    [{ components, groups: { ready: [] } }, `"groups.ready" has an invalid name: it must be ${NAMES} "live" or "ready"`],
    [{ components: {}, groups: null }, `"groups" must be an object, each member ${LIST}, not null`],
    [{ components: {}, timeoutMs: 0 }, '"timeoutMs" must be an integer of at least 1, not 0'],
    [{ components: {}, cacheMs: -1 }, '"cacheMs" must be an integer of at least 0, not -1'],
    [{ components: {}, path: 'health/' }, /"path" must be a path such as "\/health", .* not "health\/"$/],
    [{ components: {}, security: null }, '"security" must be a security rule, not null'],
    [{ components: {}, timeoutMS: 5 }, '"timeoutMS" is not known; did you mean "timeoutMs"?']
  ]
  for (const [options, message] of refused) {
    const app = Fastify()
    t.teardown(() => app.close())
    const registered = async (): Promise<unknown> => await app.register(health, options as HealthOptions)
    await t.rejects(registered, { code: 'MARTY_HEALTH_OPT_INVALID', name: 'HealthOptionInvalid', message })
  }
})

t.test('the routes are registered under `path`; the options of register are accepted', async t => {
  const register = { prefix: '/v1', logLevel: 'silent', logSerializers: {} }
  const app = await build(t, { components: {}, path: '/status/health', ...register })

  t.equal((await app.inject('/status/health/live')).statusCode, 200)
  t.equal((await app.inject('/health/live')).statusCode, 404)
})

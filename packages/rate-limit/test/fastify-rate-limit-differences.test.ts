import t, { type Test } from 'tap'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fc from 'fast-check'
import fastifyRateLimit, { type RateLimitPluginOptions } from '@fastify/rate-limit'
import { slidingWindowStore } from '@marty/rate-limit'
import { from, newApp, newSpace, startServer, statuses, subjectsOn } from './fastify-rate-limit-subjects.js'
import { worstWindow, type Admission } from './window-checker.js'

/** Where our stores answer otherwise than those of `@fastify/rate-limit`, each shown beside theirs. */
const { redis } = await startServer(t)
const subjects = subjectsOn(redis)
const LONG = 600_000

/** Both memory stores on one clock that the test moves. */
function onOneClock (t: Test): { clock: { ms: number }; theirs: RateLimitPluginOptions; ours: RateLimitPluginOptions } {
  const clock = { ms: 1_000_000 }
  const { now } = Date
  Date.now = () => clock.ms
  t.teardown(() => {
    Date.now = now
  })
  return { clock, theirs: {}, ours: { store: slidingWindowStore({ now: () => clock.ms }) } }
}

async function limited (t: Test, settings: RateLimitPluginOptions): Promise<FastifyInstance> {
  const app = newApp(t)
  await app.register(fastifyRateLimit, settings)
  app.get('/', async () => 'ok')
  return app
}

t.test('around the edge of a window: twice the limit there, the limit here', async t => {
  const { clock, theirs, ours } = onOneClock(t)
  const worst: number[] = []
  for (const settings of [theirs, ours]) {
    const app = await limited(t, { max: 10, timeWindow: 1000, ...settings })
    const history: Admission[] = []
    const start = (clock.ms += 100_000)
    const burst = async (atMs: number): Promise<void> => {
      clock.ms = start + atMs
      for (let i = 0; i < 20; i++) {
        if ((await app.inject('/')).statusCode === 200) {
          history.push({ before: atMs * 1000, after: atMs * 1000, units: 1 })
        }
      }
    }
    await app.inject('/')
    for (const atMs of [999, 1000, 1001, 1998, 1999, 2000]) await burst(atMs)
    worst.push(worstWindow(history, 1_000_000) / 10)
  }
  t.same(worst, [1.9, 1])
})

t.test('whatever the arrivals, in no window more than the limit; and the time said is exact', async t => {
  let ms = 0
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 40 }),
      fc.array(fc.record({ gapMs: fc.integer({ min: 0, max: 200 }).map(eighths => eighths / 8), obey: fc.boolean() }), {
        maxLength: 40
      }),
      async (max, timeWindow, arrivals) => {
        const store = new (slidingWindowStore({ now: () => ms }))({ max, timeWindow })
        const ask = (): { current: number; ttl: number } => {
          let answer = { current: NaN, ttl: NaN }
          store.incr(
            'k',
            (error, result) => {
              if (error !== null || result === undefined) throw new Error('no answer')
              answer = result
            },
            timeWindow,
            max
          )
          return answer
        }
        const admitted: number[] = []
        for (const { gapMs, obey } of arrivals) {
          ms += gapMs
          let { current, ttl } = ask()
          const live = admitted.filter(at => at > ms - timeWindow)
          if ((current > max) !== (live.length >= max)) {
            throw new Error(`decided wrongly with ${live.length} of ${max} taken`)
          }
          if (current <= max && current !== live.length + 1) {
            throw new Error(`${current} is not the number of requests in the window`)
          }
          if (current > max) {
            if (ttl !== Math.ceil(live[live.length - max]! + timeWindow - ms)) {
              throw new Error(`the wait of ${ttl} ms is not exact`)
            }
            if (!obey) continue
            ms += ttl
            current = ask().current
            if (current > max) throw new Error('refused after the wait')
          }
          admitted.push(ms)
        }
      }
    ),
    { numRuns: 500 }
  )
  t.pass('held in 500 histories')
})

t.test('Retry-After: until a request fits, not until the whole window has passed', async t => {
  const { clock, theirs, ours } = onOneClock(t)
  const waits: unknown[] = []
  for (const settings of [theirs, ours]) {
    const app = await limited(t, { max: 2, timeWindow: 10_000, ...settings })
    await app.inject('/')
    clock.ms += 10_000 - 1
    await app.inject('/')
    clock.ms += 1
    // The fixed window begins anew; in the sliding one, the second request is a millisecond old.
    for (let i = 0; i < 2; i++) await app.inject('/')
    waits.push((await app.inject('/')).headers['retry-after'])
    clock.ms += 9998
    waits.push((await app.inject('/')).statusCode)
    clock.ms += 1
    waits.push((await app.inject('/')).statusCode)
  }
  t.same(waits, ['10', 429, 429, '10', 429, 200])
})

t.test('a refused request is not counted: a limit that grows by one lets one in', async t => {
  for (const { name, isOurs, register } of subjects) {
    const app = newApp(t)
    let max = 1
    await register(app, { max: () => max, timeWindow: LONG })
    app.get('/', async () => 'ok')
    t.same(await statuses(app, 4, '/'), [200, 429, 429, 429])
    max = 2
    t.equal((await app.inject('/')).statusCode, isOurs ? 200 : 429, name)
  }
})

t.test('looking at a client who was refused shows what it has used, which is the limit', async t => {
  for (const { name, isOurs, register } of subjects) {
    const app = newApp(t)
    await register(app, { max: 1, timeWindow: LONG })
    const limit = app.createRateLimit()
    app.get('/', async () => 'ok')
    app.get('/look', { config: { rateLimit: false } }, async request => await limit(request, { increment: false }))
    await statuses(app, 3, '/')
    t.match((await app.inject('/look')).json(), { remaining: 0, isExceeded: !isOurs }, name)
  }
})

t.test('many at the same moment: exactly max pass, also in memory, where theirs lets none', async t => {
  for (const { name, register } of subjects) {
    const app = newApp(t)
    await register(app, { max: 10, timeWindow: LONG })
    app.get('/', async () => 'ok')
    const answers = await Promise.all(Array.from({ length: 50 }, () => app.inject('/')))
    const admitted = answers.filter(answer => answer.statusCode === 200)
    if (name === 'its own memory') {
      t.equal(admitted.length, 0)
      continue
    }
    t.equal(admitted.length, 10, name)
    t.same(
      admitted.map(answer => Number(answer.headers['x-ratelimit-remaining'])).sort((a, b) => a - b),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    )
  }
})

t.test('HEAD is GET: it brings no second budget', async t => {
  for (const { name, isOurs, register } of subjects) {
    const app = newApp(t)
    await register(app, { global: false })
    app.get('/', { config: { rateLimit: { max: 1, timeWindow: LONG } } }, async () => 'ok')
    t.equal((await app.inject('/')).statusCode, 200)
    t.equal((await app.inject({ method: 'HEAD', url: '/' })).statusCode, isOurs ? 429 : 200, name)
  }
})

t.test('the routes of a group share a budget, each with its own limit and with those of its window', async t => {
  for (const { name, isOurs, register } of subjects) {
    const app = newApp(t)
    await register(app, { global: false })
    app.get('/a', { config: { rateLimit: { max: 2, timeWindow: LONG, groupId: 'otp' } } }, async () => 'ok')
    app.get('/b', { config: { rateLimit: { max: 200, timeWindow: LONG, groupId: 'otp' } } }, async () => 'ok')
    app.get('/c', { config: { rateLimit: { max: 2, timeWindow: LONG, groupId: 'other' } } }, async () => 'ok')
    t.equal((await app.inject('/a')).headers['x-ratelimit-remaining'], '1')
    t.equal((await app.inject('/b')).headers['x-ratelimit-remaining'], isOurs ? '198' : '199', name)
    t.equal((await app.inject('/a')).statusCode, isOurs ? 429 : 200, name)
    t.equal((await app.inject('/c')).statusCode, 200, name)
  }
})

t.test('limiters made by hand share budgets when max is the same, and only then, wherever the windows are', async t => {
  for (const { name, isOurs, isRedis, register } of subjects) {
    const app = newApp(t)
    await register(app, { global: false })
    const [a, b, c] = [1, 1, 3].map(max => app.createRateLimit({ max, timeWindow: LONG, keyGenerator: () => 'k' }))
    app.get(
      '/',
      async request =>
        await Promise.all([a, b, c].map(async limit => ((await limit!(request)) as { isExceeded: boolean }).isExceeded))
    )
    const shares = [false, isOurs || isRedis, false]
    t.same((await app.inject('/')).json(), shares, name)
    t.same((await app.inject('/')).json(), [true, true, isRedis && !isOurs], name)
  }
})

t.test('names that run into each other do not, where the parts of a key are told apart', async t => {
  for (const { name, isOurs, isRedis, register } of subjects) {
    const app = newApp(t)
    const settings = {
      max: 1,
      timeWindow: LONG,
      keyGenerator: (request: FastifyRequest) => String(request.headers['x-key'])
    }
    await register(app, settings)
    app.get('/', async () => 'ok')
    app.get('/own', { config: { rateLimit: {} } }, async () => 'ok')
    t.equal((await app.inject(from('/own', undefined, { 'x-key': 'victim' }))).statusCode, 200)
    t.equal(
      (await app.inject(from('/', undefined, { 'x-key': 'GET/own-victim' }))).statusCode,
      isOurs || !isRedis ? 200 : 429,
      name
    )
    t.equal((await app.inject(from('/', undefined, { 'x-key': 'route:GET /ownvictim' }))).statusCode, 200, name)
  }
})

t.test('what prolongs a refusal, and a bound of one route, are refused by name', async t => {
  for (const { isOurs, isRedis, register } of subjects) {
    if (!isOurs) continue
    for (const [option, value] of [
      ['continueExceeding', true],
      ['exponentialBackoff', true],
      ['cache', 5]
    ] as const) {
      const app = newApp(t)
      await register(app, {}, newSpace())
      t.throws(() => app.get('/', { config: { rateLimit: { [option]: value } } }, async () => 'ok'), {
        code: 'MARTY_RATE_LIMIT_OPT_INVALID',
        message: new RegExp(`route GET /: config\\.rateLimit\\.${option}`)
      })
      t.throws(() => app.rateLimit({ [option]: value }), {
        code: 'MARTY_RATE_LIMIT_OPT_INVALID',
        message: new RegExp(option)
      })
      if (option !== 'cache') {
        await t.rejects(register(newApp(t), { [option]: value }), {
          code: 'MARTY_RATE_LIMIT_OPT_INVALID',
          message: new RegExp(option)
        })
      }
      app.get(
        '/off',
        { config: { rateLimit: { continueExceeding: false, exponentialBackoff: false } } },
        async () => 'ok'
      )
      t.equal((await app.inject('/off')).statusCode, 200, isRedis ? 'redis' : 'memory')
    }
  }
})

t.test('a limit that is no number fails the request, where theirs lets everybody pass', async t => {
  for (const { name, isOurs, register } of subjects) {
    for (const max of [NaN, -1, 1_000_001, '5', null, undefined]) {
      if (!isOurs && !Number.isNaN(max)) continue
      const app = newApp(t)
      await register(app, { max: () => max as number, timeWindow: LONG })
      app.get('/', async () => 'ok')
      t.equal((await app.inject('/')).statusCode, isOurs ? 500 : 200, `${name}: ${String(max)}`)
    }
    for (const timeWindow of [NaN, 0, -5, 366 * 86_400_000 + 1, '1 minute', undefined]) {
      if (!isOurs) continue
      const app = newApp(t)
      await register(app, { max: 1, timeWindow: () => timeWindow as number })
      app.get('/', async () => 'ok')
      t.equal((await app.inject('/')).statusCode, 500, `${name}: ${String(timeWindow)}`)
    }
  }
})

t.test('each length of window is counted for itself', async t => {
  for (const { name, isOurs, register } of subjects) {
    const app = newApp(t)
    await register(app, { max: 1, timeWindow: (request: FastifyRequest) => Number(request.headers['x-window']) })
    app.get('/', async () => 'ok')
    t.equal((await app.inject(from('/', undefined, { 'x-window': String(LONG) }))).statusCode, 200)
    t.equal(
      (await app.inject(from('/', undefined, { 'x-window': String(LONG * 2) }))).statusCode,
      isOurs ? 200 : 429,
      name
    )
    t.equal((await app.inject(from('/', undefined, { 'x-window': String(LONG) }))).statusCode, 429, name)
  }
})

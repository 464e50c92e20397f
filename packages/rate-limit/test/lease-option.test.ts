import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { createRedisLeases, rateLimit, type Charge, type LimitRule } from '@marty/rate-limit'
import { until } from '@marty/testing'
import { startRedis, timeUs } from './redis-server.js'

const redis = await startRedis(t)
const client = await redis.connect()
const who = { address: '192.0.2.1', operation: 'export' }

const prefixes = (function * () { for (let i = 0; ; i++) yield `lease:${i}` })()

async function build (t: Test, prefix: string, rules: Readonly<Record<string, LimitRule>>): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(rateLimit, { rules, store: { redis: client, prefix, deadlineMs: 5_000, onFailure: 'closed', instances: 1 } })
  app.get('/', { config: { security: { public: true, limits: Object.keys(rules) } } }, async () => 'ok')
  t.teardown(() => app.close())
  await app.ready()
  return app
}

async function scriptsRun (): Promise<number> {
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(await client.info('commandstats'))?.[1] ?? 0)
}

/** Asks until a lease admits, and says how often. */
async function warmUp ({ limiter }: FastifyInstance, rules: readonly string[]): Promise<number> {
  let asked = 0
  await until(async () => {
    for (let i = 0; i < 20; i++) {
      asked++
      if (!(await limiter.check(who, rules)).allowed) throw new Error('refused')
    }
    const before = await scriptsRun()
    asked++
    await limiter.check(who, rules)
    return await scriptsRun() === before
  }, 'a lease')
  return asked
}

const HOT: LimitRule = { limit: 100_000, windowMs: 60_000, by: 'global', lease: { ttlMs: 500 } }

t.test('requests whose rules are all leased do not ask Redis, over HTTP too, and what was not spent is given back at the end', async t => {
  const app = await build(t, prefixes.next().value!, { hot: HOT, export: { ...HOT, by: 'operation', lease: true } })
  let asked = await warmUp(app, ['hot', 'export'])
  const before = await scriptsRun()
  for (let i = 0; i < 400; i++) {
    if ((await app.inject('/')).statusCode !== 200) throw new Error('refused')
    asked++
  }
  t.ok(await scriptsRun() - before < 200, 'far fewer calls than requests')
  const { quotas: [quota] } = await app.limiter.peek(who, ['hot'])
  t.ok(quota!.remaining <= 100_000 - asked, 'peek counts what is leased as used')
  t.ok(app.limiter.metrics()['hot']!.allowed >= asked)
  await app.close()
  const other = await build(t, 'lease:0', { hot: HOT })
  t.match(await other.limiter.peek(who, ['hot']), { quotas: [{ remaining: 100_000 - asked }] })
})

t.test('a reset ends the lease', async t => {
  const app = await build(t, prefixes.next().value!, { hot: HOT })
  await warmUp(app, ['hot'])
  await app.limiter.reset(who, ['hot'])
  t.match(await app.limiter.peek(who, ['hot']), { quotas: [{ remaining: 100_000 }] })
  t.match(await app.limiter.check(who, ['hot']), { quotas: [{ remaining: 99_999 }] }, 'decided by the new window')
})

t.test('what is left is never overstated, and the wait that is said suffices', async t => {
  const app = await build(t, prefixes.next().value!, { hot: { limit: 200, windowMs: 1_000, by: 'global', lease: { share: 0.5 } } })
  let admitted = 0
  for (;;) {
    const { allowed, retryAfterMs, quotas } = await app.limiter.check(who, ['hot'])
    if (!allowed) {
      t.ok(retryAfterMs > 0 && retryAfterMs <= 1_100, 'a window and a lease at most')
      await new Promise(resolve => setTimeout(resolve, retryAfterMs))
      break
    }
    admitted++
    t.ok(quotas[0]!.remaining <= 200 - admitted)
  }
  t.equal(admitted, 200, 'and all of it can be used')
  t.match(await app.limiter.check(who, ['hot']), { allowed: true })
})

t.test('the script: never more than its part, in a window that lasts, and exactly what was not spent comes back', async t => {
  const prefix = prefixes.next().value!
  const leases = createRedisLeases({ redis: client, prefix })
  const charge: Charge = { rule: 'r', subject: 's', limit: 10_000, windowMs: 200, cost: 1 }
  const terms = { leaseMs: 20, share: 0.5, unspent: null }
  const before = await timeUs(client)
  const first = await leases.take(charge, { ...terms, units: 2_500 })
  t.equal(first.units, 2_500)
  t.ok(Number(first.stamp) >= before + 20_000)
  t.equal(first.resetUs, 220_000)
  const second = await leases.take(charge, { ...terms, units: 9_000 })
  t.equal(second.units, 3_750, 'half of what is left')
  t.ok(Number(second.stamp) > Number(first.stamp))
  t.ok(second.resetUs < 220_000)
  const [key = ''] = await client.keys(`*${prefix}*`)
  t.ok(await client.pttl(key) > 1_200)
  t.same(await leases.take(charge, { ...terms, units: 0, unspent: { ...first, units: 1_000 } }), { units: 0, stamp: '0', resetUs: 0 })
  t.equal(await client.llen(key), 5_250)
  t.equal((await client.lrange(key, 0, -1)).filter(stamp => stamp === first.stamp).length, 1_500)
  t.match(await leases.take({ ...charge, limit: 5_252 }, { ...terms, units: 5 }), { units: 0 }, 'one unit is no lease')
  await until(async () => await timeUs(client) > Number(second.stamp) + 200_000, 'the window to end')
  t.match(await leases.take(charge, { ...terms, units: 10 }), { units: 10, resetUs: 220_000 })
  t.equal(await client.llen(key), 10, 'what has left the window goes')
})

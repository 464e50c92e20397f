import t, { type Test } from 'tap'
import { hash } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import {
  createGuardedStore,
  createRedisStore,
  rateLimit,
  type BatchStore,
  type Charge,
  type LimitDecision,
  type RedisStoreSettings
} from '@marty/rate-limit'
import { openRedis } from '@marty/redis'
import { blockLoopFor, blockLoopUntil, freePort, redisCli, type RedisServer, startRedis, until } from '@marty/testing'
import { clusterArgs } from '@marty/testing/redis-topology'

const MODES = ['closed', 'local', 'open'] as const

async function server (t: Test): Promise<RedisServer> {
  const redis = await startRedis(await freePort())
  t.teardown(() => redis.stop())
  return redis
}

async function limited (t: Test, port: number, settings: Omit<RedisStoreSettings, 'redis'>): Promise<FastifyInstance> {
  const redis = openRedis({ port })
  const app = Fastify()
  t.teardown(async () => {
    await app.close()
    await redis.close()
  })
  await redis.ready(10_000)
  await app.register(rateLimit, {
    rules: { many: { limit: 10_000, windowMs: 60_000, by: 'address' } },
    store: { redis: redis.client, ...settings }
  })
  await app.ready()
  await untilHealthy(app)
  return app
}

/** Also once the script is known: a stall between its two calls is another matter. */
async function untilHealthy (app: FastifyInstance): Promise<void> {
  await until(
    () =>
      check(app).then(
        ({ degraded }) => !degraded,
        () => false
      ),
    'Redis to decide'
  )
}

async function check (app: FastifyInstance): Promise<LimitDecision> {
  return await app.limiter.check({ address: '192.0.2.1' }, ['many'])
}

/** How many requests the script has decided, as the window of the one budget says. */
function unitsIn (port: number, prefix: string): number {
  return Number(redisCli(port, 'llen', redisCli(port, 'keys', `{${prefix}}:many*`)))
}

/** Asks 64 times; the event loop then stands still until Redis has answered all, and a while longer. */
async function askDuringStall (
  app: FastifyInstance,
  port: number,
  prefix: string,
  stallMs: number
): Promise<LimitDecision[]> {
  const before = unitsIn(port, prefix)
  const decisions = Promise.all(Array.from({ length: 64 }, () => check(app)))
  // Batches leave at the end of a turn; by two turns later all have.
  for (let i = 0; i < 2; i++) await new Promise(setImmediate)
  blockLoopUntil(() => unitsIn(port, prefix) === before + 64)
  blockLoopFor(stallMs)
  return await decisions
}

t.test('a busy event loop is not taken for a dead Redis, and keeps nobody from it afterwards', async t => {
  const { port } = await server(t)
  for (const onFailure of MODES) {
    const app = await limited(t, port, { onFailure, prefix: onFailure })
    for (const stallMs of [75, 200, 1_100]) {
      const decisions = await askDuringStall(app, port, onFailure, stallMs)
      t.equal(
        decisions.filter(({ allowed, degraded }) => allowed && !degraded).length,
        64,
        `${onFailure}, ${stallMs} ms: all are decided by Redis`
      )
    }
  }
})

t.test(
  'the probe of a Redis that is back is believed, although the event loop was busy when its answer came',
  async t => {
    const redis = await server(t)
    const app = await limited(t, redis.port, { onFailure: 'local', prefix: 'probe' })
    redis.child.kill('SIGSTOP')
    // Until the breaker is open: then the answers come without a wait.
    await until(async () => {
      const asked = performance.now()
      return (await check(app)).degraded && performance.now() - asked < 5
    }, 'the breaker to open')
    redis.child.kill('SIGCONT')
    const metrics = (): number => app.limiter.metrics()['many']!.allowed
    const before = metrics()
    // The probe leaves at the end of the turn in which the breaker lets it through.
    while (metrics() === before) {
      const asked = check(app)
      for (let i = 0; i < 2; i++) await new Promise(setImmediate)
      blockLoopFor(120)
      await asked
    }
    t.equal((await check(app)).degraded, false)
  }
)

t.test('a Redis that is really frozen is given up in the turn after the stall', async t => {
  const redis = await server(t)
  const app = await limited(t, redis.port, { onFailure: 'closed', prefix: 'frozen' })
  redis.child.kill('SIGSTOP')
  let turns = 0
  const count = (): void => {
    turns++
    counting = setImmediate(count)
  }
  let counting = setImmediate(count)
  t.teardown(() => {
    clearImmediate(counting)
  })
  const answers = Array.from({ length: 64 }, () =>
    check(app).then(
      () => 'decided',
      (error: { code?: unknown }) => error.code
    )
  )
  for (let i = 0; i < 2; i++) await new Promise(setImmediate)
  blockLoopFor(200)
  const before = turns
  t.same(new Set(await Promise.all(answers)), new Set(['MARTY_RATE_LIMIT_STORE_UNAVAILABLE']))
  t.ok(turns - before <= 2, `given up ${turns - before} turns after the stall`)
})

const charge: Charge = { rule: 'r', subject: 's', limit: 100, windowMs: 60_000, cost: 1 }

t.test('what fails in one turn of the event loop counts once, what fails in three turns opens the breaker', async t => {
  let isDown = true
  let calls = 0
  let underWay: Array<() => void> = []
  const store: BatchStore = {
    async takeAll (requests) {
      calls++
      if (isDown) {
        await new Promise((resolve, reject) => {
          underWay.push(() => {
            reject(new Error('lost'))
          })
        })
      }
      return requests.map(() => ({ allowed: true, degraded: false, states: [] }))
    }
  }
  const failAll = (): void => {
    for (const fail of underWay) fail()
    underWay = []
  }
  const guarded = createGuardedStore({ store, deadlineMs: 60_000, onFailure: 'open' })

  const answers = Array.from({ length: 64 }, async () => await guarded.take([charge]))
  await until(() => underWay.length === 4, 'four calls to be under way')
  isDown = false
  failAll()
  t.ok((await Promise.all(answers)).every(({ degraded }) => degraded))
  t.match(await guarded.take([charge]), { degraded: false }, 'the store is asked again')

  isDown = true
  for (let i = 0; i < 3; i++) {
    const answer = guarded.take([charge])
    await until(() => underWay.length === 1, 'the call')
    failAll()
    t.match(await answer, { degraded: true })
  }
  const before = calls
  t.match(await guarded.take([charge]), { degraded: true })
  t.equal(calls, before, 'what has failed in three moments is left alone')
})

t.test(
  'cluster: one slow node keeps the requests of the others waiting no longer than the deadline, whatever the client would wait',
  async t => {
    const nodes = await Promise.all(
      [0, 1].map(
        async () =>
          await startRedis(await freePort(), [
            ...(await clusterArgs()),
            '--cluster-announce-ip',
            '127.0.0.1',
            '--cluster-node-timeout',
            '600000'
          ])
      )
    )
    for (const node of nodes) t.teardown(() => node.stop())
    for (const [i, { port }] of nodes.entries()) {
      redisCli(port, 'cluster', 'addslotsrange', String(i * 8192), String(i * 8192 + 8191))
    }
    redisCli(
      nodes[0]!.port,
      'cluster',
      'meet',
      '127.0.0.1',
      String(nodes[1]!.port),
      nodes[1]!.child.spawnargs[nodes[1]!.child.spawnargs.indexOf('--cluster-port') + 1]!
    )
    for (const { port } of nodes) {
      await until(() => redisCli(port, 'cluster', 'info').includes('cluster_state:ok'), 'the cluster')
    }
    const redis = openRedis({
      cluster: nodes.map(({ port }) => ({ host: '127.0.0.1', port })),
      commandTimeoutMs: 20_000
    })
    t.teardown(() => redis.close())
    await redis.ready(10_000)
    const store = createGuardedStore({
      store: createRedisStore({ redis: redis.client, deadlineMs: 500 }),
      deadlineMs: 10_000,
      onFailure: 'closed'
    })
    const ask = async (i: number): Promise<boolean> =>
      await Promise.resolve(store.take([{ ...charge, subject: `s${i}` }])).then(
        () => true,
        () => false
      )
    t.notOk((await Promise.all(Array.from({ length: 40 }, async (_, i) => await ask(i)))).includes(false))
    const alive = logsOn(nodes[0]!.port, 40)
    nodes[1]!.child.kill('SIGSTOP')
    const answers = await Promise.all(Array.from({ length: 40 }, async (_, i) => await ask(i)))
    nodes[1]!.child.kill('SIGCONT')
    t.same(answers, alive, 'who lives on the other node is served')
  }
)

/** Of each subject, whether its window is on the node with this port. */
function logsOn (port: number, subjects: number): boolean[] {
  const keys = redisCli(port, 'keys', '*')
  return Array.from({ length: subjects }, (_, i) => keys.includes(hash('sha256', `s${i}`, 'base64url').slice(0, 22)))
}

import t from 'tap'
import Fastify from 'fastify'
import {
  createGuardedStore,
  createLimitAdmin,
  createRedisStore,
  rateLimit,
  type Charge,
  type StoreAnswer
} from '@marty/rate-limit'
import { openRedis } from '@marty/redis'
import { freePort, type RedisServer, startRedis, until } from '@marty/testing'
import { slidingWindowStore } from '@marty/rate-limit'
import { worstWindow, type Admission } from './window-checker.js'

const NODES = 3
const nodes: RedisServer[] = []
const SLOTS = 16_384

/** Three masters that share the slots. */
async function startCluster (): Promise<number[]> {
  const ports: number[] = []
  const setups = []
  for (let i = 0; i < NODES; i++) {
    const port = await freePort()
    const node = (nodes[i] = await startRedis(port, [
      '--cluster-enabled',
      'yes',
      '--cluster-announce-ip',
      '127.0.0.1',
      '--cluster-port',
      String(await freePort())
    ]))
    t.teardown(() => node.stop())
    const setup = openRedis({ port, commandTimeoutMs: 2_000 })
    t.teardown(() => setup.close())
    await setup.ready(5_000)
    await setup.client.call(
      'CLUSTER',
      'ADDSLOTSRANGE',
      String(Math.floor((i * SLOTS) / NODES)),
      String(Math.floor(((i + 1) * SLOTS) / NODES) - 1)
    )
    ports.push(port)
    setups.push(setup)
  }
  const ids = await Promise.all(
    setups.map(async ({ client }) => String(await client.call('CLUSTER', 'NODES')).split(/[ @]/))
  )
  for (const other of ids.slice(1)) {
    const [, address = ''] = other
    const busPort = /@(\d+)/.exec(String(await setups[ids.indexOf(other)]!.client.call('CLUSTER', 'NODES')))![1]!
    await setups[0]!.client.call('CLUSTER', 'MEET', '127.0.0.1', address.split(':')[1]!, busPort)
  }
  for (const { client } of setups) {
    await until(
      async () => String(await client.call('CLUSTER', 'INFO')).includes('cluster_state:ok'),
      'the cluster to be ok',
      30_000
    )
  }
  return ports
}

const ports = await startCluster()
const redis = openRedis({ cluster: ports.map(port => ({ host: '127.0.0.1', port })), commandTimeoutMs: 2_000 })
t.teardown(() => redis.close())
await redis.ready(10_000)
const charge = (rule: string, subject: string, over: Partial<Charge> = {}): Charge => ({
  rule,
  subject,
  limit: 5,
  windowMs: 60_000,
  cost: 1,
  ...over
})

t.test('windows are spread over the nodes', async t => {
  const store = createRedisStore({ redis: redis.client })
  await Promise.all(Array.from({ length: 100 }, async (_, i) => await store.take([charge('spread', `user-${i}`)])))
  const sizes = await Promise.all(
    redis.client.isCluster
      ? (redis.client as never as { nodes(role: string): Array<{ dbsize(): Promise<number> }> })
          .nodes('master')
          .map(async node => await node.dbsize())
      : []
  )
  t.equal(sizes.length, NODES)
  t.ok(
    sizes.every(size => size > 10),
    `${sizes.join(', ')} windows`
  )
})

t.test('a request that one slot refuses is counted in none, small windows and large', async t => {
  const store = createRedisStore({ redis: redis.client })
  for (const limit of [5, 500]) {
    const others = Array.from({ length: 6 }, (_, i) => charge('other', `${limit}-${i}`, { limit, cost: 2 }))
    const narrow = charge('narrow', `n${limit}`, { limit: 1 })
    t.match(await store.take([...others, narrow]), { allowed: true })
    for (let i = 0; i < 5; i++) {
      const refused = await store.take([...others, narrow])
      t.equal(refused.allowed, false)
      t.same(
        refused.states.map(({ retryUs }) => retryUs > 0),
        [...others.map(() => false), true],
        'only the violated rule has a time to wait'
      )
      t.same(
        refused.states.map(({ remaining }) => remaining),
        [...others.map(() => limit - 2), 0]
      )
    }
    for (const other of others) {
      t.match(await store.take([{ ...other, cost: 1 }]), { allowed: true, states: [{ remaining: limit - 3 }] })
    }
  }
})

t.test('as a store of @fastify/rate-limit: one budget for every process, and looking takes nothing', async t => {
  const processes = [1, 2].map(
    () =>
      new (slidingWindowStore({ redis: redis.client, prefix: 'frl', deadlineMs: 10_000 }))({
        max: 3,
        timeWindow: 60_000
      })
  )
  const ask = async (how: 'incr' | 'read', process: number, key: string): Promise<number | undefined> =>
    await new Promise((resolve, reject) => {
      processes[process]![how](
        key,
        (error, result) => {
          if (error === null) resolve(result?.current)
          else reject(error)
        },
        60_000,
        3
      )
    })
  for (const key of ['a', 'b', 'c', 'd']) {
    const used: unknown[] = []
    for (const process of [0, 1, 0, 1]) used.push(await ask('read', process, key), await ask('incr', process, key))
    t.same(used, [0, 1, 1, 2, 2, 3, 3, 4])
  }
})

t.test('many at once: never above a limit, and what was refused is given back', async t => {
  const store = createGuardedStore({ store: createRedisStore({ redis: redis.client }), deadlineMs: 2_000 })
  const windowMs = 400
  const history: Admission[] = []
  const now = (): number => performance.now() * 1000
  const end = performance.now() + 1_500
  await Promise.all(
    Array.from({ length: 32 }, async (_, who) => {
      while (performance.now() < end) {
        const before = now()
        const answer: StoreAnswer = await store.take([
          charge('shared', 'all', { limit: 20, windowMs }),
          charge('own', `w${who % 8}`, { limit: 9, windowMs })
        ])
        if (answer.degraded) throw new Error('the cluster is healthy')
        if (answer.allowed) history.push({ before, after: now(), units: 1 })
      }
    })
  )
  t.ok(history.length >= 20)
  t.ok(worstWindow(history, windowMs * 1000) <= 20, `${worstWindow(history, windowMs * 1000)} in one window`)
  await new Promise(resolve => setTimeout(resolve, windowMs))
  const answers = await Promise.all(
    Array.from(
      { length: 20 },
      async (_, i) =>
        await store.take([
          charge('shared', 'all', { limit: 20, windowMs }),
          charge('own', `w${i % 8}`, { limit: 9, windowMs })
        ])
    )
  )
  t.equal(answers.filter(answer => answer.allowed).length, 20, 'a window later there is room for as many as ever')
})

t.test('operators see and reset budgets wherever they live', async t => {
  const prefix = 'operated'
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rateLimit, {
    rules: {
      few: { limit: 1, windowMs: 60_000, by: 'address' },
      many: { limit: 500, windowMs: 60_000, by: 'address' }
    },
    store: { redis: redis.client, prefix, deadlineMs: 2_000 }
  })
  await app.ready()
  const admin = createLimitAdmin({ redis: redis.client, prefix })
  const addresses = Array.from({ length: 20 }, (_, i) => `192.0.2.${i}`)
  const knock = async (): Promise<boolean[]> =>
    await Promise.all(addresses.map(async address => (await app.limiter.check({ address }, ['few', 'many'])).allowed))
  t.ok((await knock()).every(allowed => allowed))
  t.ok((await knock()).every(allowed => !allowed))
  await until(async () => (await admin.top()).length === 20, 'every refusal to be told of')
  for (const address of addresses) {
    t.match(await admin.show({ rule: 'few', address }), { limit: 1, used: 1, remaining: 0 })
    t.match(await admin.show({ rule: 'many', address }), { limit: 500, used: 1, remaining: 499 })
    t.match(await app.limiter.peek({ address }, ['few', 'many']), {
      allowed: false,
      violated: ['few'],
      quotas: [{ remaining: 0 }, { remaining: 499 }]
    })
    t.match(await admin.reset({ rule: 'few', address }), { wasUsed: true })
  }
  t.strictSame(await admin.top(), [])
  t.ok((await knock()).every(allowed => allowed))
})

t.test('a master that is gone, or hangs, is missed by the requests that need it and by no other', async t => {
  const quick = openRedis({ cluster: ports.map(port => ({ host: '127.0.0.1', port })), commandTimeoutMs: 1_000 })
  t.teardown(() => quick.close())
  await quick.ready(10_000)
  const store = createGuardedStore({
    store: createRedisStore({ redis: quick.client }),
    deadlineMs: 1_000,
    onFailure: 'closed'
  })
  const asked = Array.from({ length: 60 }, (_, i) => [
    charge('mine', `user-${i}`, { limit: 1_000 }),
    charge('list', `user-${i}`, { limit: 1_000, capacity: 1_000 })
  ])
  const ask = async (): Promise<number[]> => {
    const outcomes = await Promise.allSettled(asked.map(async charges => await store.take(charges)))
    return outcomes.flatMap((outcome, i) => (outcome.status === 'rejected' ? [i] : []))
  }
  t.same(await ask(), [])
  for (const signal of ['SIGSTOP', 'SIGKILL'] as const) {
    nodes[0]!.child.kill(signal)
    const missed = await ask()
    t.ok(missed.length > 5 && missed.length < 40, `${signal}: ${missed.length} of 60`)
    t.same(await ask(), missed, 'the same again')
  }
})

import t from 'tap'
import Fastify from 'fastify'
import { createGuardedStore, createLimitAdmin, createRedisStore, rateLimit, type Charge, type StoreAnswer } from '@marty/rate-limit'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from '../../redis/dist-test/redis-server.js'
import { worstWindow, type Admission } from './window-checker.js'

const NODES = 3
const SLOTS = 16_384

/** Three masters that share the slots. */
async function startCluster (): Promise<number[]> {
  const ports: number[] = []
  const setups = []
  for (let i = 0; i < NODES; i++) {
    const port = await freePort()
    const node = await startRedis(port, ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1', '--cluster-port', String(await freePort())])
    t.teardown(() => node.stop())
    const setup = openRedis({ port, commandTimeoutMs: 2_000 })
    t.teardown(() => setup.close())
    await setup.ready(5_000)
    await setup.client.call('CLUSTER', 'ADDSLOTSRANGE', String(Math.floor(i * SLOTS / NODES)), String(Math.floor((i + 1) * SLOTS / NODES) - 1))
    ports.push(port)
    setups.push(setup)
  }
  const ids = await Promise.all(setups.map(async ({ client }) => String(await client.call('CLUSTER', 'NODES')).split(/[ @]/)))
  for (const other of ids.slice(1)) {
    const [, address = ''] = other
    const busPort = /@(\d+)/.exec(String(await setups[ids.indexOf(other)]!.client.call('CLUSTER', 'NODES')))![1]!
    await setups[0]!.client.call('CLUSTER', 'MEET', '127.0.0.1', address.split(':')[1]!, busPort)
  }
  for (const { client } of setups) {
    await until(async () => String(await client.call('CLUSTER', 'INFO')).includes('cluster_state:ok'), 'the cluster to be ok', 30_000)
  }
  return ports
}

const ports = await startCluster()
const redis = openRedis({ cluster: ports.map(port => ({ host: '127.0.0.1', port })), commandTimeoutMs: 2_000 })
t.teardown(() => redis.close())
await redis.ready(10_000)
const charge = (rule: string, subject: string, over: Partial<Charge> = {}): Charge => ({ rule, subject, limit: 5, windowMs: 60_000, cost: 1, ...over })

t.test('logs are spread over the nodes', async t => {
  const store = createRedisStore({ redis: redis.client })
  await Promise.all(Array.from({ length: 100 }, async (_, i) => await store.take([charge('spread', `user-${i}`)])))
  const sizes = await Promise.all(redis.client.isCluster ? (redis.client as never as { nodes (role: string): Array<{ dbsize (): Promise<number> }> }).nodes('master').map(async node => await node.dbsize()) : [])
  t.equal(sizes.length, NODES)
  t.ok(sizes.every(size => size > 10), `${sizes.join(', ')} logs`)
})

t.test('a request that one slot refuses is counted in none, small logs and large', async t => {
  const store = createRedisStore({ redis: redis.client })
  for (const limit of [5, 500]) {
    const others = Array.from({ length: 6 }, (_, i) => charge('other', `${limit}-${i}`, { limit, cost: 2 }))
    const narrow = charge('narrow', `n${limit}`, { limit: 1 })
    t.match(await store.take([...others, narrow]), { allowed: true })
    for (let i = 0; i < 5; i++) {
      const refused = await store.take([...others, narrow])
      t.equal(refused.allowed, false)
      t.same(refused.states.map(({ retryUs }) => retryUs > 0), [...others.map(() => false), true], 'only the violated rule has a time to wait')
      t.same(refused.states.map(({ remaining }) => remaining), [...others.map(() => limit - 2), 0])
    }
    for (const other of others) t.match(await store.take([{ ...other, cost: 1 }]), { allowed: true, states: [{ remaining: limit - 3 }] })
  }
})

t.test('many at once: never above a limit, and what was refused is given back', async t => {
  const store = createGuardedStore({ store: createRedisStore({ redis: redis.client }), deadlineMs: 2_000 })
  const windowMs = 400
  const history: Admission[] = []
  const now = (): number => performance.now() * 1000
  const end = performance.now() + 1_500
  await Promise.all(Array.from({ length: 32 }, async (_, who) => {
    while (performance.now() < end) {
      const before = now()
      const answer: StoreAnswer = await store.take([charge('shared', 'all', { limit: 20, windowMs }), charge('own', `w${who % 8}`, { limit: 9, windowMs })])
      if (answer.degraded) throw new Error('the cluster is healthy')
      if (answer.allowed) history.push({ before, after: now(), units: 1 })
    }
  }))
  t.ok(history.length >= 20)
  t.ok(worstWindow(history, windowMs * 1000) <= 20, `${worstWindow(history, windowMs * 1000)} in one window`)
  await new Promise(resolve => setTimeout(resolve, windowMs))
  const answers = await Promise.all(Array.from({ length: 20 }, async (_, i) => await store.take([charge('shared', 'all', { limit: 20, windowMs }), charge('own', `w${i % 8}`, { limit: 9, windowMs })])))
  t.equal(answers.filter(answer => answer.allowed).length, 20, 'a window later there is room for as many as ever')
})

t.test('operators see and reset budgets wherever they live', async t => {
  const prefix = 'operated'
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rateLimit, { rules: { few: { limit: 1, windowMs: 60_000, by: 'address' }, many: { limit: 500, windowMs: 60_000, by: 'address' } }, store: { redis: redis.client, prefix, deadlineMs: 2_000 } })
  await app.ready()
  const admin = createLimitAdmin({ redis: redis.client, prefix })
  const addresses = Array.from({ length: 20 }, (_, i) => `192.0.2.${i}`)
  const knock = async (): Promise<boolean[]> => await Promise.all(addresses.map(async address => (await app.limiter.check({ address }, ['few', 'many'])).allowed))
  t.ok((await knock()).every(allowed => allowed))
  t.ok((await knock()).every(allowed => !allowed))
  await until(async () => (await admin.top()).length === 20, 'every refusal to be told of')
  for (const address of addresses) {
    t.match(await admin.show({ rule: 'few', address }), { limit: 1, used: 1, remaining: 0 })
    t.match(await admin.show({ rule: 'many', address }), { limit: 500, used: 1, remaining: 499 })
    t.match(await app.limiter.peek({ address }, ['few', 'many']), { allowed: false, violated: ['few'], quotas: [{ remaining: 0 }, { remaining: 499 }] })
    t.match(await admin.reset({ rule: 'few', address }), { wasUsed: true })
  }
  t.strictSame(await admin.top(), [])
  t.ok((await knock()).every(allowed => allowed))
})

import t from 'tap'
import fc from 'fast-check'
import { createGuardedStore, createRedisStore, type Charge, type LimitStore } from '@marty/rate-limit'
import { until } from '@marty/testing'
import { startRedis } from './redis-server.js'

const redis = await startRedis(t)
const client = await redis.connect()
let serial = 0
const charge = (over: Partial<Charge> = {}): Charge => ({
  rule: 'r',
  subject: `s${serial}`,
  limit: 8,
  windowMs: 60_000,
  cost: 1,
  ...over
})

/** A process of the limiter whose Redis can be taken away. */
function start (instances = 1): LimitStore & { isDown: boolean } {
  const network = { isDown: false }
  const call = async (command: string, args: Array<string | number | Buffer>): Promise<unknown> => {
    if (network.isDown) throw new Error('gone')
    return await client.callBuffer(command, args)
  }
  const store = createRedisStore({ redis: { callBuffer: call, evalsha: async () => null, eval: async () => null } })
  return Object.assign(network, createGuardedStore({ store, instances, deadlineMs: 5_000 }))
}

async function admitted (store: LimitStore, times: number, over: Partial<Charge> = {}): Promise<number> {
  let units = 0
  for (let i = 0; i < times; i++) if ((await store.take([charge(over)])).allowed) units += over.cost ?? 1
  return units
}

async function recover (store: ReturnType<typeof start>, windowMs = 60_000): Promise<void> {
  store.isDown = false
  await until(
    async () => !(await store.take([charge({ rule: 'other', limit: 1_000, windowMs })])).degraded,
    'the store to be asked again'
  )
}

t.beforeEach(() => {
  serial++
})

t.test(
  'nobody gains from an outage: what was used before counts in it, what was used in it counts afterwards',
  async t => {
    for (const limit of [8, 300]) {
      const store = start()
      t.equal(await admitted(store, limit - 3, { limit }), limit - 3)
      store.isDown = true
      t.equal(await admitted(store, 2, { limit }), 2)
      await recover(store)
      t.equal(await admitted(store, 10, { limit }), 1)
      store.isDown = true
      t.equal(await admitted(store, 10, { limit }), 0, 'nor in the next')
      serial++
    }
  }
)

t.test('every process gives out its part of what was left, and is heard of when it is asked again', async t => {
  const stores = Array.from({ length: 4 }, () => start(4))
  for (const store of stores) t.equal(await admitted(store, 2, { limit: 20 }), 2)
  for (const store of stores) {
    t.equal(await admitted(store, 1, { limit: 20, cost: 13 }), 0, 'all have heard that twelve are left')
    store.isDown = true
  }
  for (const store of stores) t.equal(await admitted(store, 20, { limit: 20 }), 3)
  for (const store of stores) await recover(store)
  for (const store of stores) await store.take([charge({ limit: 20 })])
  for (const store of stores) t.equal(await admitted(store, 5, { limit: 20 }), 0)
})

t.test('a budget nobody knows of is given out in even parts, never in less than one request', async t => {
  const store = start(4)
  store.isDown = true
  t.equal(await admitted(store, 10), 2)
  t.equal(await admitted(store, 10, { rule: 'dear', cost: 3, limit: 4 }), 3)
})

t.test('a burst counts in an outage as it does without, and its units are told once', async t => {
  const burst = { rule: 'r.burst', windowOf: 'r', limit: 4, capacity: 20, windowMs: 30_000 }
  const take = async (store: LimitStore, times: number): Promise<number> => {
    let admitted = 0
    for (let i = 0; i < times; i++) {
      if ((await store.take([charge({ limit: 20, capacity: 20 }), charge(burst)])).allowed) admitted++
    }
    return admitted
  }
  const [store, other] = [start(), start()]
  t.equal(await take(store, 1), 1)
  store.isDown = true
  t.equal(await take(store, 5), 3, 'the one before counts')
  await recover(store)
  t.equal(await take(store, 1), 0)
  t.match(await other.take([charge({ limit: 20, capacity: 20 }), charge({ ...burst, limit: 20 })]), {
    allowed: true,
    states: [{ remaining: 15 }, { remaining: 15 }]
  })
})

t.test('what Redis could not be told is told later', async t => {
  const store = start()
  store.isDown = true
  t.equal(await admitted(store, 8), 8)
  await recover(store)
  store.isDown = true
  t.equal(await admitted(store, 2), 0, 'this failed with the debt on its way')
  store.isDown = false
  t.equal(await admitted(store, 5), 0)
})

t.test('however long it lasts and however many ask at once afterwards: each unit is told once', async t => {
  let isDown = true
  const told: number[] = []
  const allowed = { allowed: true, degraded: false, states: [] }
  const store = createGuardedStore({
    store: {
      // As a Cluster says it that lacks one of its masters.
      takeAll: async requests =>
        requests.map(([{ limit, cost } = charge()]) => {
          if (isDown) return new Error('gone')
          if (limit > 8) told.push(cost)
          return allowed
        })
    }
  })
  t.equal(await admitted(store, 30), 8)
  isDown = false
  await Promise.all(Array.from({ length: 5 }, async () => await store.take([charge()])))
  t.same(told, [8])
  await store.take([charge()])
  t.same(told, [8])
})

t.test('after a window everything is forgotten', async t => {
  const store = start()
  store.isDown = true
  t.equal(await admitted(store, 8, { windowMs: 50 }), 8)
  await recover(store, 50)
  await until(
    async () => (await store.take([charge({ windowMs: 50, cost: 8 })])).allowed,
    'the whole budget to be there'
  )
  const passed = performance.now() + 50
  await until(() => performance.now() > passed, 'the window to pass')
  t.equal(await admitted(store, 9, { rule: 'next', windowMs: 60_000 }), 8)
})

t.test('for any blips of the network: one process never admits more than the limit', async t => {
  const step = fc.record({ isDown: fc.boolean(), cost: fc.integer({ min: 1, max: 3 }) })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async steps => {
      const store = start()
      serial++
      let units = 0
      let failures = 0
      for (const { isDown, cost } of steps) {
        // A third failure in a row would open the breaker: no blip any more.
        store.isDown = isDown && failures < 2
        failures = store.isDown ? failures + 1 : 0
        units += await admitted(store, 1, { cost })
      }
      if (units > 8) throw new Error(`${units} of 8`)
    }),
    { numRuns: 100 }
  )
  t.pass('held')
})

t.test('what is known of a window is bounded: beyond a hundred thousand it begins anew', async t => {
  const callBuffer = async (command: string, args: Array<string | number | Buffer>): Promise<Buffer> =>
    Buffer.alloc(7 + Number(args[1]) * 16)
  const store = createRedisStore({ redis: { callBuffer, evalsha: async () => null, eval: async () => null } })
  const known = (subject: string): boolean => store.lastKnown!(charge({ subject })) !== null
  for (let first = 0; first < 101_000; first += 1_000) {
    await store.takeAll(Array.from({ length: 1_000 }, (_, i) => [charge({ subject: String(first + i) })]))
    if (first === 0) t.ok(known('0'))
  }
  t.notOk(known('0'))
  t.ok(known('100999'))
})

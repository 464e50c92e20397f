import t, { type Test } from 'tap'
import { once } from 'node:events'
import Fastify from 'fastify'
import { ANONYMOUS, type Principal } from '@marty/core'
import rateLimit, { createGuardedStore, createRedisStore, type Charge, type StoreAnswer } from '@marty/rate-limit'
import type { ScriptClient } from '@marty/redis'
import { startRedis } from './redis-server.js'

const redis = await startRedis(t)
const client = await redis.connect()
const charge = (subject: string, over: Partial<Charge> = {}): Charge => ({
  rule: 'r',
  subject,
  limit: 2,
  windowMs: 60_000,
  cost: 1,
  ...over
})

/** Counts the commands on their way to the client. */
function counted (inner: ScriptClient): ScriptClient & { commands: number } {
  const outer = {
    commands: 0,
    evalsha: (...args: Parameters<ScriptClient['evalsha']>) => {
      outer.commands++
      return inner.evalsha(...args)
    },
    eval: (...args: Parameters<ScriptClient['eval']>) => {
      outer.commands++
      return inner.eval(...args)
    },
    callBuffer: (...args: Parameters<ScriptClient['callBuffer']>) => {
      outer.commands++
      return inner.callBuffer(...args)
    }
  }
  return outer
}

t.test('any number of rules is one command, and a flushed script is loaded again without counting twice', async t => {
  const spy = counted(client)
  const store = createRedisStore({ redis: spy })
  await client.script('FLUSH')
  t.match(await store.take([charge('flush')]), { allowed: true, states: [{ remaining: 1 }] })
  t.equal(spy.commands, 2, 'EVALSHA, then once EVAL')
  t.match(await store.take([charge('flush'), charge('flush2'), charge('flush3')]), {
    allowed: true,
    states: [{ remaining: 0 }, { remaining: 1 }, { remaining: 1 }]
  })
  t.equal(spy.commands, 3)
})

t.test("keys are short, prefixed, in one slot, without the client's text, and expire", async t => {
  await client.flushall()
  const store = createRedisStore({ redis: client, prefix: 'shop:limit' })
  await store.take([charge('alice@example.org', { windowMs: 5000 }), charge('x'.repeat(1_000_000), { windowMs: 5000 })])
  const keys = await client.keys('*')
  t.equal(keys.length, 2)
  for (const key of keys) {
    t.match(key, /^\{shop:limit\}:r:[\w-]{22}$/)
    const left = await client.pttl(key)
    t.ok(left > 5000 && left <= 7250, 'a window and a quarter, and one second')
  }
})

t.test('stamps keep their microseconds, and a window stays about as long as its limit', async t => {
  await client.flushall()
  const store = createRedisStore({ redis: client })
  for (const [limit, stampsOf] of [
    [100, packedStamps],
    [200, async (key: string) => (await client.lrange(key, 0, -1)).map(Number)]
  ] as const) {
    await client.flushall()
    for (let i = 0; i < 500; i++) await store.take([charge('precise', { limit, windowMs: 20 })])
    const [key = ''] = await client.keys('*')
    const stamps = await stampsOf(key)
    t.ok(
      stamps.length > 0 && stamps.length <= limit * 1.25,
      'gone stamps are cleared away when they are a quarter of the limit'
    )
    t.ok(
      stamps.every(stamp => String(stamp).length === 16),
      'sixteen digits, no exponent'
    )
    t.ok(
      stamps.some(stamp => stamp % 100 !== 0),
      'no digit was rounded away'
    )
    t.same(
      stamps,
      [...stamps].sort((a, b) => a - b)
    )
  }
})

t.test('no window is forgotten while a stamp of it counts, in either form', async t => {
  await client.flushall()
  const store = createRedisStore({ redis: client })
  const windowMs = 60
  for (const limit of [20, 200]) {
    await client.flushall()
    let shortest = Infinity
    let seen = 0
    for (let i = 0; i < 300; i++) {
      // Both times are of Redis, and the first is before the take, so that no pause of this process can shorten what is
      // between them.
      const [seconds, microseconds] = await client.time()
      await store.take([charge('lasting', { limit, windowMs })])
      const [key] = await client.keys('*')
      const expiresAtMs = key === undefined ? -1 : Number(await client.call('PEXPIRETIME', key))
      // After a pause of a second it is gone, as it should be.
      if (expiresAtMs < 0) continue
      seen++
      shortest = Math.min(shortest, expiresAtMs - (Number(seconds) * 1000 + Number(microseconds) / 1000))
      if (i % 20 === 19) await new Promise(resolve => setTimeout(resolve, (i % 3) * 40))
    }
    t.ok(seen > 200)
    t.ok(shortest > 1000, `${shortest} ms were left at least, a window and nearly a second`)
  }
})

/** Seven bytes each, the largest first. */
async function packedStamps (key: string): Promise<number[]> {
  const packed = (await client.getBuffer(key)) ?? Buffer.alloc(0)
  return Array.from({ length: packed.length / 7 }, (_, i) => packed[i * 7]! * 2 ** 48 + packed.readUIntBE(i * 7 + 1, 6))
}

const packStamp = (stamp: number): Buffer => {
  const packed = Buffer.alloc(7)
  packed[0] = Math.floor(stamp / 2 ** 48)
  packed.writeUIntBE(stamp % 2 ** 48, 1, 6)
  return packed
}

t.test('a window from the future is set back to now, and admits nothing more', async t => {
  for (const limit of [2, 200]) {
    await client.flushall()
    const store = createRedisStore({ redis: client })
    const take = async (cost: number): Promise<StoreAnswer> =>
      await store.take([charge('clock', { windowMs: 60_000, limit, cost })])
    await take(1)
    const [key = ''] = await client.keys('*')
    const ahead = Date.now() * 1000 + 3_600_000_000
    if (limit === 2) await client.set(key, packStamp(ahead))
    else await client.multi().del(key).rpush(key, String(ahead)).exec()
    t.match(await take(limit - 1), { allowed: true, states: [{ remaining: 0 }] })
    const stamps = limit === 2 ? await packedStamps(key) : (await client.lrange(key, 0, -1)).map(Number)
    t.equal(stamps.length, limit)
    t.same(
      stamps,
      [...stamps].sort((a, b) => a - b),
      'the order of stamps holds'
    )
    t.ok(stamps.at(-1)! < Date.now() * 1000 + 1_000_000)
    const refused = await take(1)
    t.equal(refused.allowed, false)
    t.ok(refused.states[0]!.retryUs <= 60_500_000, 'the wait told is that of the window')
  }
})

t.test('requests of one turn share a call, see each other, and are refused one by one', async t => {
  const spy = counted(client)
  const store = createGuardedStore({ store: createRedisStore({ redis: spy }) })
  await store.take([charge('warm')])
  const before = spy.commands
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, i) =>
      store.take([charge('batch', { limit: 10 }), charge(`own-${i % 4}`, { limit: 5 })])
    )
  )
  t.ok(spy.commands - before <= 4, `${spy.commands - before} calls for 40 requests`)
  t.equal(answers.filter(answer => answer.allowed).length, 10)
  t.same(
    answers.slice(0, 10).map(answer => answer.states[0]!.remaining),
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
  )
})

t.test(
  'a budget is one in a call, however long its name, whatever its form, and when others are forgotten',
  async t => {
    const store = createRedisStore({ redis: client, prefix: 'one' })
    const admitted = async (...requests: ReadonlyArray<readonly Charge[]>): Promise<boolean[]> =>
      (await store.takeAll(requests)).map(answer => !(answer instanceof Error) && answer.allowed)
    const [long, other] = [charge('x'.repeat(10_000), { limit: 1 }), charge('y'.repeat(10_000), { limit: 1 })]
    t.same(await admitted([long], [other], [long], [long, charge('short')]), [true, true, false, false])
    const [small, large] = [charge('form', { limit: 1 }), charge('form', { limit: 1, capacity: 1_000 })]
    t.same(await admitted([small], [large], [small], [large]), [true, true, false, false])
    // A hundred thousand are remembered; the place in a call where that is reached depends on how many there were.
    for (const crowd of [99_990, 99_991]) {
      const store = createRedisStore({ redis: client, prefix: `crowd:${crowd}` })
      for (let i = 0; i < crowd; i += 1_111) {
        await store.takeAll(Array.from({ length: Math.min(1_111, crowd - i) }, (_, j) => [charge(`crowd-${i + j}`)]))
      }
      for (let i = 0; i < 10; i++) {
        const one = charge(`last-${i}`, { limit: 1 })
        t.same(
          (await store.takeAll([[one], [charge(`next-${i}`)], [one]])).map(
            answer => !(answer instanceof Error) && answer.allowed
          ),
          [true, true, false]
        )
      }
    }
  }
)

t.test('a number that does not fit is an error, not a smaller one', async t => {
  const store = createRedisStore({ redis: client, prefix: 'fit' })
  for (const cost of [2 ** 28, 2 ** 28 + 1, 2 ** 40, -1, NaN, Infinity]) {
    await t.rejects(async () => await store.take([charge('cost', { cost, limit: 2 ** 30 })]), {
      name: 'RangeError',
      message: new RegExp(`cannot tell Redis ${cost}:`)
    })
  }
  for (const limit of [2 ** 35, -1, NaN]) {
    await t.rejects(async () => await store.take([charge('limit', { limit })]), RangeError)
  }
  await t.rejects(async () => await store.take([charge('window', { windowMs: 2 ** 40 })]), RangeError)
  t.same(await client.keys('{fit}*'), [])
})

t.test('a frozen call makes nobody else wait for longer than his own deadline', async t => {
  const hanging = { takeAll: async () => await new Promise<never>(() => {}) }
  let calls = 0
  const store = createGuardedStore({
    store: {
      takeAll: async () => {
        calls++
        return await hanging.takeAll()
      }
    },
    deadlineMs: 40,
    onFailure: 'open'
  })
  const first = store.take([charge('a')])
  await new Promise(resolve => setTimeout(resolve, 10))
  const second = store.take([charge('b')])
  await first
  t.equal(calls, 2, 'the second was sent while the first was still waited for')
  t.same(await second, { allowed: true, degraded: true, states: [] })
})

t.test('nonsense from the client is a failure, not a permission', async t => {
  for (const reply of [null, 'OK', [], [1, 1, 1, 1, 1], Buffer.alloc(0), Buffer.alloc(22), Buffer.alloc(24)]) {
    const answer = async (): Promise<unknown> => reply
    const store = createRedisStore({ redis: { evalsha: answer, eval: answer, callBuffer: answer } })
    await t.rejects(async () => await store.take([charge('a')]), { name: 'TypeError' }, JSON.stringify(reply))
  }
})

t.test('callers of several roles share one window, whatever their own limits', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(rateLimit, {
    rules: { all: { limit: { default: 100, premium: 200 }, windowMs: 60_000, by: 'global' } },
    store: { redis: client, deadlineMs: 5_000 }
  })
  const premium: Principal = { ...ANONYMOUS, id: 'p', kind: 'user', roles: ['premium'] }
  t.match(await app.limiter.check({ address: null, principal: premium }, ['all'], 100), {
    allowed: true,
    quotas: [{ limit: 200, remaining: 100 }]
  })
  t.match(await app.limiter.check({ address: null }, ['all']), {
    allowed: false,
    quotas: [{ limit: 100, remaining: 0 }]
  })
  t.match(await app.limiter.check({ address: null, principal: premium }, ['all'], 100), {
    allowed: true,
    quotas: [{ remaining: 0 }]
  })
})

t.test('a frozen Redis', async t => {
  const server = redis.process
  const frozen = async (t: Test, work: () => Promise<void>): Promise<void> => {
    t.teardown(async () => {
      server.kill('SIGCONT')
      await client.ping()
    })
    server.kill('SIGSTOP')
    try {
      await work()
    } finally {
      server.kill('SIGCONT')
    }
  }

  t.test(
    "local: counts here with this instance's part, is not asked each time, told once, and is used again afterwards",
    async t => {
      const spy = counted(client)
      const told: Error[] = []
      const store = createGuardedStore({
        store: createRedisStore({ redis: spy }),
        deadlineMs: 30,
        instances: 4,
        onDegraded: error => {
          told.push(error)
        }
      })
      const take = async (): Promise<StoreAnswer> => await store.take([charge('frozen', { limit: 8 })])
      t.match(await take(), { allowed: true, degraded: false })
      const before = spy.commands
      await frozen(t, async () => {
        const answers: StoreAnswer[] = []
        for (let i = 0; i < 12; i++) answers.push(await take())
        t.ok(answers.every(answer => answer.degraded))
        t.equal(answers.filter(answer => answer.allowed).length, 1, 'a quarter of the seven that were left')
        t.ok(spy.commands - before < 6, 'the breaker opened')
        t.match(told, [{ message: /did not answer within 30 ms/ }])
      })
      const deadline = Date.now() + 10_000
      let answer = await take()
      while (answer.degraded && Date.now() < deadline) {
        await new Promise(resolve => setTimeout(resolve, 50))
        answer = await take()
      }
      t.equal(answer.degraded, false)
    }
  )

  t.test('closed: 503, and open: uncounted', async t => {
    const closed = createGuardedStore({
      store: createRedisStore({ redis: client }),
      deadlineMs: 20,
      onFailure: 'closed'
    })
    const open = createGuardedStore({ store: createRedisStore({ redis: client }), deadlineMs: 20, onFailure: 'open' })
    await frozen(t, async () => {
      await t.rejects(async () => await closed.take([charge('c')]), {
        code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE',
        statusCode: 503,
        rpcCode: -32050,
        headers: { 'retry-after': '1' }
      })
      for (let i = 0; i < 5; i++) t.same(await open.take([charge('o')]), { allowed: true, degraded: true, states: [] })
    })
  })
})

t.test('a killed Redis is answered for, and nothing is sent twice', async t => {
  const own = await startRedis(t)
  const doomed = await own.connect()
  const spy = counted(doomed)
  const store = createGuardedStore({ store: createRedisStore({ redis: spy }) })
  t.match(await store.take([charge('killed')]), { degraded: false })
  const before = spy.commands
  own.process.kill('SIGKILL')
  await once(own.process, 'exit')
  t.match(await store.take([charge('killed')]), { allowed: true, degraded: true })
  t.equal(spy.commands, before + 1)
})

t.test('a burst is told by the window of its rule', async t => {
  const store = createRedisStore({ redis: client, prefix: 'bursts' })
  for (const [subject, capacity] of [
    ['packed', 100],
    ['list', 500]
  ] as const) {
    const calls: Charge = { rule: 'calls', subject, limit: 100, windowMs: 60_000, cost: 2, capacity }
    const burst: Charge = { ...calls, rule: 'calls.burst', windowOf: 'calls', limit: 5, windowMs: 30_000 }
    t.match(await store.take([calls, burst]), { allowed: true, states: [{ remaining: 98 }, { remaining: 3 }] })
    t.match(await store.take([calls, burst]), { allowed: true, states: [{ remaining: 96 }, { remaining: 1 }] })
    t.match(await store.take([calls, burst]), {
      allowed: false,
      states: [{ remaining: 96, retryUs: 0 }, { remaining: 1 }]
    })
    t.match(await store.take([calls, { ...burst, limit: 6 }]), { allowed: true }, 'as for a caller of another role')
    t.equal((await client.keys('{bursts}:*')).length, subject === 'packed' ? 1 : 2, 'one window each')
    for (const wrong of [
      [burst],
      [burst, calls],
      [calls, { ...burst, subject: 'another' }],
      [calls, { ...burst, cost: 1 }],
      [calls, { ...burst, windowOf: 'other' }]
    ]) {
      await t.rejects(async () => await store.take(wrong), {
        message: /The charge of a burst does not follow that of its rule/
      })
    }
  }
})

t.test('what somebody else wrote to a window is replaced, and harms no other request', async t => {
  const store = createGuardedStore({
    store: createRedisStore({ redis: client, prefix: 'damaged' }),
    onFailure: 'closed',
    deadlineMs: 5_000
  })
  for (const limit of [5, 300]) {
    const mine = charge(`mine-${limit}`, { limit })
    await store.take([mine])
    const [key] = await client.keys('{damaged}*')
    for (const damage of [
      ['SET', key!, 'junk'],
      ['SET', key!, 'x'.repeat(15)],
      ['HSET', key!, 'a', '1'],
      ['RPUSH', key!, 'no', 'number']
    ] as const) {
      await client.del(key!)
      await client.call(damage[0], ...damage.slice(1))
      const answers = await Promise.all(
        [charge('a'), mine, charge('b'), mine].map(async one => await store.take([one]))
      )
      t.match(
        answers,
        [
          { allowed: true },
          { allowed: true, degraded: false },
          { allowed: true },
          { allowed: true, states: [{ remaining: limit - 2 }] }
        ],
        `${limit}: ${damage.join(' ')}`
      )
      t.ok((await client.pttl(key!)) > 0)
      await client.flushdb()
    }
  }
})

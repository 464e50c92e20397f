import t from 'tap'
import {
  createGuardedStore,
  LeasedStore,
  createLimitAdmin,
  createRedisLeases,
  createRedisStore,
  type Charge,
  type LimitStore,
  type StoreAnswer
} from '@marty/rate-limit'
import type { ScriptClient } from '@marty/redis'
import { startRedis } from './redis-server.js'
import { worstWindow, type Admission } from './window-checker.js'

const redis = await startRedis(t)
const client = await redis.connect()
t.beforeEach(async () => {
  await client.flushall()
})

/** A Redis whose scripts read another clock: its own, plus so many milliseconds. */
function withClock (): { readonly redis: ScriptClient; offsetMs: number } {
  const clock = { offsetMs: 0 }
  const set = (script: string): string =>
    script.replace(
      /(redis\.)?call\('TIME'\)/g,
      `(function ()
    local t = redis.call('TIME')
    local us = tonumber(t[1]) * 1000000 + tonumber(t[2]) + (${clock.offsetMs * 1000})
    return { string.format('%.0f', math.floor(us / 1000000)), string.format('%.0f', us % 1000000) }
  end)()`
    )
  // A script that is not known is sent whole.
  const unknown = async (): Promise<never> => {
    throw new Error('NOSCRIPT')
  }
  const redis: ScriptClient = {
    evalsha: unknown,
    eval: async (script, ...args) => await client.eval(set(script), ...args),
    async callBuffer (command, args) {
      if (command === 'evalsha') return await unknown()
      return await client.callBuffer(command, command === 'eval' ? [set(String(args[0])), ...args.slice(1)] : args)
    }
  }
  return Object.assign(clock, { redis })
}

const STEPS_MS = [-2_000, -3_600_000, -86_400_000 * 365 * 40, -700, -5, -40]

for (const [form, limit] of [
  ['packed', 20],
  ['list', 200]
] as const) {
  t.test(
    `${form}: wherever the clock is set back to, no window holds more than the limit and no one waits for longer than a window`,
    async t => {
      const windowMs = 400
      /** Of a list the newest units may lie a tenth of a window ahead, as those of leases do. */
      const mostUs = form === 'packed' ? windowMs * 1000 : windowMs * 1100
      const clock = withClock()
      const store = createRedisStore(clock)
      const history: Admission[] = []
      const take = async (cost: number): Promise<StoreAnswer> => {
        const before = performance.now() * 1000
        const answer = await store.take([{ rule: 'steps', subject: form, limit, windowMs, cost }])
        if (answer.allowed) history.push({ before, after: performance.now() * 1000, units: cost })
        return answer
      }
      const until = async (done: (answer: StoreAnswer) => boolean): Promise<void> => {
        while (!done(await take(1 + Math.floor((Math.random() * limit) / 10)))) {
          await new Promise(resolve => setTimeout(resolve, 5))
        }
      }
      for (const stepMs of STEPS_MS) {
        // Used up in pieces, so that the window holds stamps of many times.
        await until(({ allowed }) => !allowed)
        clock.offsetMs += stepMs
        const told: number[] = []
        for (let tries = 0; tries < 3; tries++) {
          const {
            allowed,
            states: [state]
          } = await take(1)
          if (allowed) break
          t.ok(state!.retryUs > 0 && state!.retryUs <= mostUs, `${stepMs}: told to wait ${state!.retryUs} us`)
          t.ok(state!.resetUs <= mostUs)
          told.push(state!.retryUs)
          await new Promise(resolve => setTimeout(resolve, Math.ceil(state!.retryUs / 1000) + 1))
        }
        // Once is what is due; the second time the timer was early by a millisecond of another clock.
        t.ok(told.length < 3, `${stepMs}: admitted after waiting ${told.join(', ')} us`)
      }
      const worst = worstWindow(history, windowMs * 1000)
      t.ok(worst <= limit, `${worst} of ${limit} in one window`)
    }
  )
}

t.test('a steady client is hardly disturbed by a clock that steps back', async t => {
  const clock = withClock()
  const store = createRedisStore(clock)
  const charge: Charge = { rule: 'steady', subject: 's', limit: 100, windowMs: 1_000, cost: 1 }
  // A window of even use, up to the limit, on a clock that is moved by hand.
  const base = Date.now()
  const at = (ms: number): void => {
    clock.offsetMs = ms - (Date.now() - base)
  }
  for (let ms = 0; ms < 1_000; ms += 10) {
    at(ms)
    t.equal((await store.take([charge])).allowed, true)
  }
  let admitted = 0
  for (let ms = 0; ms < 1_000; ms += 10) {
    at(ms - 2_000)
    if ((await store.take([charge])).allowed) admitted++
  }
  t.ok(admitted >= 95, `${admitted} of 100 due`)
})

t.test('leases of a clock that steps back never add up to more than the limit', async t => {
  const clock = withClock()
  const guarded = createGuardedStore({ store: createRedisStore(clock), deadlineMs: 10_000, onFailure: 'closed' })
  const charge: Charge = {
    rule: 'leased',
    subject: 'all',
    limit: 1_000,
    windowMs: 2_000,
    cost: 1,
    capacity: 1_000,
    lease: { share: 0.5 }
  }
  const stores: LimitStore[] = [0, 1].map(() => new LeasedStore({ store: guarded, leases: createRedisLeases(clock) }))
  const history: Admission[] = []
  const end = performance.now() + 6_000
  const steps = [-1_000, -90_000, -300, -7_200_000]
  let nextStep = performance.now() + 1_000
  while (performance.now() < end) {
    await Promise.all(
      stores.flatMap(store =>
        Array.from({ length: 8 }, async () => {
          const before = performance.now() * 1000
          if ((await store.take([charge])).allowed) history.push({ before, after: performance.now() * 1000, units: 1 })
        })
      )
    )
    if (performance.now() > nextStep) {
      clock.offsetMs += steps.shift() ?? 0
      nextStep += 1_000
    }
    await new Promise(resolve => setImmediate(resolve))
  }
  const worst = worstWindow(history, 2_000_000)
  t.ok(worst <= 1_000, `${worst} of 1000 in one window`)
  t.ok(worst > 500, 'the limit was tried')
})

t.test('operators see what the next decision will', async t => {
  for (const limit of [10, 1_000]) {
    const clock = withClock()
    const prefix = `operators-${limit}`
    const store = createRedisStore({ redis: clock.redis, prefix })
    const admin = createLimitAdmin({ redis: clock.redis, prefix, deadlineMs: 10_000 })
    const rule = { limit, windowMs: 60_000, by: 'global', cost: 1, windowOf: 'all' }
    await client.hset(`{${prefix}}:#rules`, 'all', JSON.stringify(rule))
    await store.take([{ rule: 'all', subject: 'global', limit, windowMs: 60_000, cost: 5 }])
    clock.offsetMs -= 3_600_000
    for (let i = 0; i < 2; i++) {
      const state = await admin.show('all:global')
      t.match(state, { used: 5, remaining: limit - 5 })
      t.ok(state.resetMs! > 59_000 && state.resetMs! <= 60_500, `${state.resetMs} ms`)
    }
  }
})

t.test('a list of a million units is set back at once', async t => {
  const clock = withClock()
  const store = createRedisStore(clock)
  const charge: Charge = { rule: 'million', subject: 's', limit: 1_000_000, windowMs: 60_000, cost: 1_000_000 }
  t.match(await store.take([charge]), { allowed: true })
  clock.offsetMs -= 3_600_000
  const before = performance.now()
  const {
    allowed,
    states: [state]
  } = await store.take([{ ...charge, cost: 1 }])
  t.comment(`moved in ${Math.round(performance.now() - before)} ms`)
  t.notOk(allowed)
  t.ok(state!.retryUs <= 60_500_000)
  const [key = ''] = await client.keys('*')
  t.equal(await client.llen(key), 1_000_000)
  t.ok((await client.pttl(key)) > 0, 'it still expires')
})

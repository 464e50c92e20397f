import t from 'tap'
import fc from 'fast-check'
import { createMemoryStore, createRedisStore, type Charge, type ChargeState, type StoreAnswer } from '@marty/rate-limit'
import { startRedis } from './redis-server.js'

const redis = await startRedis(t)
const client = await redis.connect()

/** The limiter as its definition says it: the units of the last window, counted one by one. */
function createModel (): { take(charges: readonly Charge[], nowUs: number): StoreAnswer } {
  const windows = new Map<string, number[]>()
  const stateOf = (stamps: readonly number[], { limit, windowMs, cost }: Charge, nowUs: number): ChargeState => {
    const over = stamps.length + cost - limit
    const left = (stamp: number | undefined): number => (stamp === undefined ? 0 : stamp + windowMs * 1000 - nowUs)
    return {
      remaining: Math.max(0, limit - stamps.length),
      resetUs: left(stamps[0]),
      retryUs: over > 0 ? left(stamps[over - 1]) : 0
    }
  }
  return {
    take (charges, nowUs) {
      const live = ({ rule, windowOf = rule, subject, windowMs }: Charge): number[] =>
        (windows.get(`${windowOf} ${subject}`) ?? []).filter(stamp => stamp > nowUs - windowMs * 1000)
      const allowed = charges.every(charge => live(charge).length + charge.cost <= charge.limit)
      if (allowed) {
        for (const { rule, windowOf = rule, subject, cost } of charges) {
          // A burst counts what its rule does.
          if (windowOf === rule) {
            windows.set(`${rule} ${subject}`, [
              ...(windows.get(`${rule} ${subject}`) ?? []),
              ...Array<number>(cost).fill(nowUs)
            ])
          }
        }
      }
      return { allowed, degraded: false, states: charges.map(charge => stateOf(live(charge), charge, nowUs)) }
    }
  }
}

const call = fc.record({
  /** Until the call, in microseconds. */
  pause: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 15_000 })),
  /** Requests of one call. */
  requests: fc.array(
    fc.record({
      rules: fc.subarray([0, 1, 2], { minLength: 1 }),
      subject: fc.integer({ min: 0, max: 1 }),
      cost: fc.integer({ min: 1, max: 4 }),
      /** Callers of other roles have other limits on the same window. */
      role: fc.integer({ min: 0, max: 2 }),
      isTold: fc.boolean()
    }),
    { minLength: 1, maxLength: 4 }
  )
})
const history = fc.record({
  rules: fc.array(
    fc.record({
      limit: fc.integer({ min: 4, max: 9 }),
      windowMs: fc.integer({ min: 1, max: 25 }),
      capacity: fc.constantFrom(20, 500),
      burst: fc.option(fc.record({ limit: fc.integer({ min: 4, max: 9 }), windowMs: fc.integer({ min: 1, max: 12 }) }))
    }),
    { minLength: 3, maxLength: 3 }
  ),
  calls: fc.array(call, { minLength: 1, maxLength: 25 })
})
type History = typeof history extends fc.Arbitrary<infer T> ? T : never

function chargesOf (
  { rules }: History,
  { rules: named, subject, cost, role, isTold }: History['calls'][number]['requests'][number],
  run: string,
  isLocal = false
): Charge[] {
  return named.flatMap(i => {
    const { limit, windowMs, capacity, burst } = rules[i]!
    const charge: Charge = {
      rule: `rule${i}`,
      subject: `${run}-${subject}`,
      limit: limit + role,
      windowMs,
      cost,
      capacity
    }
    // What is told after an outage has no burst, and counts in it all the same.
    if (burst === null || (isTold && !isLocal)) return [charge]
    return [
      charge,
      {
        ...charge,
        rule: `rule${i}.burst`,
        windowOf: charge.rule,
        limit: Math.min(limit, burst.limit) + role,
        windowMs: Math.min(windowMs, burst.windowMs)
      }
    ]
  })
}

function same (ours: StoreAnswer | Error, model: StoreAnswer, where: string): void {
  // When it was taken is the store's own business.
  const [a, b] = [ours, model].map(answer =>
    JSON.stringify(answer, (name, value) => (name === 'takenAtUs' ? undefined : value))
  )
  if (a !== b) throw new Error(`${where} says ${a}, the model ${b}`)
}

t.test('memory does what the model does, whatever is asked', async t => {
  fc.assert(
    fc.property(history, history => {
      let us = 0
      // Half a microsecond more, because thousandths have no exact binary fraction and the store rounds down.
      const memory = createMemoryStore({ now: () => (us + 0.5) / 1000 })
      const model = createModel()
      for (const { pause, requests } of history.calls) {
        us += pause
        for (const request of requests) {
          const charges = chargesOf(history, request, '', true)
          same(memory.take(charges) as StoreAnswer, model.take(charges, us), 'memory')
        }
      }
    }),
    { numRuns: 500 }
  )
  t.pass('in 500 histories')
})

t.test('Redis does what the model does at the times it says, small windows and large', async t => {
  let atUs = 0
  let run = 0
  const store = createRedisStore({
    redis: {
      evalsha: client.evalsha.bind(client),
      eval: client.eval.bind(client),
      async callBuffer (command, args) {
        const answer = (await client.callBuffer(command, args)) as Buffer
        atUs = answer[0]! * 2 ** 48 + answer.readUIntBE(1, 6)
        return answer
      }
    }
  })
  await fc.assert(
    fc.asyncProperty(history, async history => {
      const model = createModel()
      run++
      for (const { pause, requests } of history.calls) {
        if (pause > 0) await new Promise(resolve => setTimeout(resolve, pause / 1000))
        const asked = requests.map(request => chargesOf(history, request, String(run)))
        const answers = await store.takeAll(asked)
        for (const [i, answer] of answers.entries()) same(answer, model.take(asked[i]!, atUs), 'Redis')
      }
    }),
    { numRuns: 30 }
  )
  t.pass('in 30 histories')
})

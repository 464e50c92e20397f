import t from 'tap'
import fc from 'fast-check'
import {
  LeasedStore,
  createMemoryStore,
  createRedisLeases,
  createRedisStore,
  type Charge,
  type LimitStore,
  type StoreAnswer
} from '@marty/rate-limit'
import { startRedis, timeUs } from './redis-server.js'
import { possiblyLive, worstWindow, type Admission } from './window-checker.js'

/** A store and the clock it goes by. */
interface Subject {
  readonly store: LimitStore
  /** Smallest step of time a test can take. */
  readonly tickUs: number
  readonly runs: number
  clockUs(): Promise<number>
  /** Returns when the clock has reached the time. */
  reach(timeUs: number): Promise<void>
}

const redis = await startRedis(t)
const client = await redis.connect()

function memory (): Subject {
  let us = 0
  return {
    store: createMemoryStore({ now: () => us / 1000 }),
    // An eighth of a millisecond has an exact binary fraction, so the fake clock does not round.
    tickUs: 125,
    runs: 300,
    clockUs: async () => us,
    reach: async time => {
      us = Math.max(us, Math.ceil(time / 125) * 125)
    }
  }
}

function overRedis (): Subject {
  return {
    store: createRedisStore({ redis: client }),
    tickUs: 1000,
    runs: 25,
    clockUs: () => timeUs(client),
    async reach (time) {
      for (let left = time - (await timeUs(client)); left > 0; left = time - (await timeUs(client))) {
        await new Promise(resolve => setTimeout(resolve, left / 1000))
      }
    }
  }
}

/**
 * Every rule leased. What these histories ask of a budget is too little for a lease, so that all must be as without.
 */
function leased (): Subject {
  const subject = overRedis()
  const leasedStore = new LeasedStore({ store: subject.store, leases: createRedisLeases({ redis: client }) })
  return {
    ...subject,
    store: {
      take: charges => leasedStore.take(charges.map(charge => ({ ...charge, capacity: 1_000, lease: { share: 0.5 } })))
    }
  }
}

let serial = 0
const fresh = (name: string): string => `${name}-${serial++}`

async function ask (
  subject: Subject,
  charges: readonly Charge[]
): Promise<StoreAnswer & { before: number; after: number }> {
  const before = await subject.clockUs()
  const answer = await subject.store.take(charges)
  return { ...answer, before, after: await subject.clockUs() }
}

for (const [name, make] of [
  ['memory', memory],
  ['redis', overRedis],
  ['leased', leased]
] as const) {
  t.test(name, async t => {
    t.test('a request that one rule refuses is counted by none', async t => {
      const { store } = make()
      const narrow: Charge = { rule: 'narrow', subject: fresh('a'), limit: 1, windowMs: 60_000, cost: 1 }
      const wide: Charge = { rule: 'wide', subject: fresh('a'), limit: 10, windowMs: 60_000, cost: 1 }
      t.match(await store.take([wide, narrow]), {
        allowed: true,
        degraded: false,
        states: [{ remaining: 9 }, { remaining: 0 }]
      })
      for (let i = 0; i < 20; i++) {
        const refused = await store.take([wide, narrow])
        t.match(refused, { allowed: false, states: [{ remaining: 9, retryUs: 0 }, { remaining: 0 }] })
        t.ok(refused.states[1]!.retryUs > 0, 'only the violated rule has a time to wait')
      }
      t.match(await store.take([wide]), { allowed: true, states: [{ remaining: 8 }] })
    })

    t.test('knocking does not lengthen the wait, and waiting the time said suffices', async t => {
      const subject = make()
      const charge: Charge = { rule: 'r', subject: fresh('a'), limit: 3, windowMs: 120, cost: 1 }
      const first = await ask(subject, [charge])
      for (let i = 0; i < 2; i++) await subject.store.take([charge])
      let refused = await ask(subject, [charge])
      for (let i = 0; i < 10; i++) refused = await ask(subject, [charge])
      t.equal(refused.allowed, false)
      t.ok(
        refused.before + refused.states[0]!.retryUs <= first.after + 120_000,
        'no longer than until the first stamp leaves'
      )
      await subject.reach(refused.after + refused.states[0]!.retryUs)
      t.equal((await ask(subject, [charge])).allowed, true)
    })

    t.test('the twofold burst at the edge of a window does not pass', async t => {
      const subject = make()
      const charge: Charge = { rule: 'r', subject: fresh('a'), limit: 5, windowMs: 100, cost: 1 }
      const history: Admission[] = []
      const start = await subject.clockUs()
      const moments = [0, 95_000, 99_000, 100_000, 101_000, 190_000, 195_000, 200_000, 205_000, 290_000]
      for (const moment of moments) {
        await subject.reach(start + moment)
        for (let i = 0; i < 4; i++) {
          const { allowed, before, after } = await ask(subject, [charge])
          if (allowed) history.push({ before, after, units: 1 })
        }
      }
      t.ok(worstWindow(history, 100_000) <= 5)
      t.ok(history.length > 5, 'and still as much passes as may')
    })

    t.test('a call of several units fits whole or not at all', async t => {
      const { store } = make()
      const who = fresh('a')
      const charge = (cost: number): Charge => ({ rule: 'r', subject: who, limit: 10, windowMs: 60_000, cost })
      t.match(await store.take([charge(7)]), { allowed: true, states: [{ remaining: 3 }] })
      t.match(await store.take([charge(4)]), { allowed: false, states: [{ remaining: 3 }] })
      t.match(await store.take([charge(3)]), { allowed: true, states: [{ remaining: 0 }] })
      t.match(await store.take([charge(1)]), { allowed: false, states: [{ remaining: 0 }] })
    })

    t.test('a caller whose limit has become smaller waits until it fits', async t => {
      const subject = make()
      const who = fresh('a')
      const charge = (limit: number): Charge => ({ rule: 'r', subject: who, limit, windowMs: 80, cost: 1 })
      for (let i = 0; i < 6; i++) await subject.store.take([charge(6)])
      const refused = await ask(subject, [charge(2)])
      t.match(refused, { allowed: false, states: [{ remaining: 0 }] })
      await subject.reach(refused.after + refused.states[0]!.retryUs)
      t.equal((await ask(subject, [charge(2)])).allowed, true)
    })

    t.test('nobody spends the budget of another, whatever the names', async t => {
      const { store } = make()
      const base = fresh('a')
      const names = [
        base,
        `${base}:`,
        `${base}{x}`,
        `{${base}}`,
        `${base} b`,
        `${base}\n`,
        `${base}\u0000`,
        'x'.repeat(1_000_000) + base
      ]
      for (const subject of names) {
        t.match(
          await store.take([{ rule: 'r', subject, limit: 1, windowMs: 60_000, cost: 1 }]),
          { allowed: true },
          subject.slice(0, 20)
        )
      }
    })

    t.test(
      'for any arrivals and rules: never above a limit, never refused without cause, and the wait is exact',
      async t => {
        const { runs } = make()
        await fc.assert(
          fc.asyncProperty(scenario, async ({ rules, arrivals }) => {
            await replay(make(), rules, arrivals)
          }),
          { numRuns: runs }
        )
        t.pass(`held in ${runs} histories`)
      }
    )
  })
}

const scenario = fc.record({
  rules: fc.array(
    fc.record({
      limit: fc.integer({ min: 1, max: 6 }),
      windowMs: fc.integer({ min: 2, max: 30 }),
      subjects: fc.integer({ min: 1, max: 2 })
    }),
    { minLength: 1, maxLength: 3 }
  ),
  arrivals: fc.array(
    fc.record({
      gapTicks: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 12 })),
      who: fc.integer({ min: 0, max: 1 }),
      cost: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 3 })),
      /** After a refusal: come back exactly when told. */
      obey: fc.boolean()
    }),
    { minLength: 1, maxLength: 30 }
  )
})
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never

async function replay (subject: Subject, rules: Scenario['rules'], arrivals: Scenario['arrivals']): Promise<void> {
  const run = fresh('run')
  const histories = new Map<string, Admission[]>()
  const historyOf = (charge: Charge): Admission[] => {
    const key = `${charge.rule} ${charge.subject}`
    return histories.get(key) ?? histories.set(key, []).get(key)!
  }
  for (const { gapTicks, who, cost, obey } of arrivals) {
    await subject.reach((await subject.clockUs()) + gapTicks * subject.tickUs)
    const charges = rules.map(({ limit, windowMs, subjects }, i): Charge => ({
      rule: `rule${i}`,
      subject: `${run}-${who % subjects}`,
      limit,
      windowMs,
      cost: Math.min(cost, limit)
    }))
    let answer = await ask(subject, charges)
    if (!answer.allowed) {
      const justified = charges.some(
        charge => possiblyLive(historyOf(charge), answer.before, charge.windowMs * 1000) + charge.cost > charge.limit
      )
      if (!justified) throw new Error(`refused although every rule had room: ${JSON.stringify({ charges, answer })}`)
      if (!obey) continue
      await subject.reach(answer.after + Math.max(...answer.states.map(state => state.retryUs)))
      answer = await ask(subject, charges)
      if (!answer.allowed) throw new Error(`refused after the wait it was told: ${JSON.stringify({ charges, answer })}`)
    }
    for (const [i, charge] of charges.entries()) {
      historyOf(charge).push({ before: answer.before, after: answer.after, units: charge.cost })
      const { remaining, resetUs } = answer.states[i]!
      if (remaining < 0 || resetUs > charge.windowMs * 1000) {
        throw new Error(`impossible state: ${JSON.stringify({ charge, answer })}`)
      }
      const worst = worstWindow(historyOf(charge), charge.windowMs * 1000)
      if (worst > charge.limit) {
        throw new Error(`${worst} units in one window: ${JSON.stringify({ charge, history: historyOf(charge) })}`)
      }
    }
  }
}

import t from 'tap'
import fc from 'fast-check'
import { setImmediate as turn } from 'node:timers/promises'
import {
  LeasedStore,
  StoreUnavailable,
  type Charge,
  type Grant,
  type LeaseStore,
  type LeaseRequest,
  type LimitStore,
  type StoreAnswer
} from '@marty/rate-limit'
import { worstWindow, type Admission } from './window-checker.js'

const HOT: Charge = { rule: 'hot', subject: 'all', limit: 1_000, windowMs: 1_000, cost: 1, lease: {} }
const EXACT: Charge = { rule: 'exact', subject: 'me', limit: 10, windowMs: 1_000, cost: 1 }

/** A window on a clock of its own, decided as Redis decides. Microseconds. */
function createWindow (now: () => number): {
  exact(charges: readonly Charge[]): StoreAnswer
  lease(charge: Charge, request: LeaseRequest): Grant
  stamps: number[]
} {
  const stamps: number[] = []
  const live = (windowMs: number): number[] => stamps.filter(stamp => stamp + windowMs * 1000 > now())
  const add = (units: number, stamp: number): number => {
    const last = Math.max(stamp, stamps.at(-1) ?? 0)
    for (let i = 0; i < units; i++) stamps.push(last)
    return last
  }
  return {
    stamps,
    exact ([{ cost, limit, windowMs } = HOT]) {
      const allowed = live(windowMs).length + cost <= limit
      if (allowed) add(cost, now())
      return {
        allowed,
        degraded: false,
        states: [{ remaining: limit - live(windowMs).length, resetUs: 1, retryUs: allowed ? 0 : 1 }]
      }
    },
    lease ({ limit, windowMs }, { leaseMs, units, share, unspent }) {
      for (let left = unspent?.units ?? 0; left > 0; left--) {
        const at = stamps.lastIndexOf(Number(unspent!.stamp))
        if (at >= 0) stamps.splice(at, 1)
      }
      const granted = Math.floor(Math.min(units, (limit - live(windowMs).length) * share))
      return granted < 2
        ? { units: 0, stamp: '0', resetUs: 0 }
        : { units: granted, stamp: String(add(granted, now() + leaseMs * 1000)), resetUs: 1 }
    }
  }
}

const history = fc.record({
  limit: fc.integer({ min: 20, max: 300 }),
  windowMs: fc.integer({ min: 50, max: 500 }),
  share: fc.constantFrom(0.1, 0.3, 0.5),
  steps: fc.array(
    fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({
          do: fc.constant('ask' as const),
          process: fc.nat(2),
          times: fc.integer({ min: 1, max: 20 }),
          cost: fc.constantFrom(1, 1, 3)
        })
      },
      {
        weight: 6,
        arbitrary: fc.record({
          do: fc.constantFrom('decide' as const, 'answer' as const),
          which: fc.constantFrom(0, 0, 0, 1, 3),
          times: fc.integer({ min: 1, max: 60 })
        })
      },
      {
        weight: 2,
        arbitrary: fc.record({
          do: fc.constant('wait' as const),
          us: fc.oneof(
            fc.integer({ min: 0, max: 1_000 }),
            fc.integer({ min: 0, max: 4_000 }),
            fc.integer({ min: 4_000, max: 50_000 })
          )
        })
      },
      {
        weight: 1,
        arbitrary: fc.record({
          do: fc.constantFrom('lose' as const, 'lose' as const, 'lose' as const, 'forget' as const),
          which: fc.nat(5)
        })
      }
    ),
    { minLength: 100, maxLength: 300 }
  )
})

t.test('whatever is late, lost or stopped, no window holds more than the limit', async t => {
  let leased = 0
  await fc.assert(
    fc.asyncProperty(history, async ({ limit, windowMs, share, steps }) => {
      let us = 1_000_000
      const window = createWindow(() => us)
      const admitted: Admission[] = []
      // What was sent waits to be decided, and what was decided waits to be heard of: each for as long as it pleases.
      const sent: Array<() => () => void> = []
      const decided: Array<() => void> = []
      const send = <T>(decide: () => T): Promise<T> =>
        new Promise(resolve => {
          sent.push(() => {
            const answer = decide()
            return () => {
              resolve(answer)
            }
          })
        })
      const charge: Charge = { rule: 'r', subject: 's', limit, windowMs, capacity: 1_000, cost: 1, lease: { share } }
      const processes = [0, 777, 123_456].map(
        (begun): LeasedStore =>
          new LeasedStore({
            now: () => us / 1_000 - begun,
            store: {
              take: charges =>
                send(() => {
                  const answer = window.exact(charges)
                  if (answer.allowed) admitted.push({ before: us, after: us, units: charges[0]!.cost })
                  return answer
                })
            },
            leases: { take: (charge, request) => send(() => window.lease(charge, request)) }
          })
      )
      for (const step of steps) {
        if (step.do === 'wait') us += step.us
        else if (step.do === 'ask') {
          for (let i = 0; i < step.times; i++) {
            const answer = processes[step.process]!.take([{ ...charge, cost: step.cost }])
            if (answer instanceof Promise) continue
            leased++
            admitted.push({ before: us, after: us, units: step.cost })
          }
        } else if (step.do === 'decide') {
          for (const decide of sent.splice(step.which, step.times)) decided.push(decide())
        } else if (step.do === 'answer') for (const answer of decided.splice(step.which, step.times)) answer()
        else if (step.do === 'lose') decided.splice(step.which, 1)
        // Without the window's knowledge, as a process that forgets: it only loses.
        else processes[step.which % 3]!.forget([charge])
        await turn()
        const worst = worstWindow(admitted, windowMs * 1_000)
        if (worst > limit) throw new Error(`${worst} units in one window, of ${limit}`)
      }
    }),
    { numRuns: 300 }
  )
  t.comment(`${leased} were admitted from leases`)
  t.ok(leased > 1_000)
})

/** A process with all its parts in hand. */
function setUp (
  decide: LimitStore['take'] = charges => ({
    allowed: true,
    degraded: false,
    states: charges.map(({ limit }) => ({ remaining: limit - 1, resetUs: 5, retryUs: 0 }))
  })
) {
  const clock = { ms: 0 }
  const asked: Array<readonly Charge[]> = []
  const requests: LeaseRequest[] = []
  const leases: LeaseStore & { answer: (request: LeaseRequest) => Promise<Grant> } = {
    answer: async ({ units }) => ({ units, stamp: String(requests.length), resetUs: 7 }),
    async take (charge, request) {
      requests.push(request)
      return await leases.answer(request)
    }
  }
  const store = new LeasedStore({
    now: () => clock.ms,
    leases,
    store: {
      take (charges) {
        asked.push(charges)
        return decide(charges)
      }
    }
  })
  const warmUp = async (times = 8): Promise<void> => {
    for (let i = 0; i < times; i++) await store.take([HOT])
    await turn()
  }
  t.teardown(() => store.close())
  return { store, clock, asked, requests, leases, warmUp }
}

t.test('what is asked seldom, small or short is never leased', async t => {
  const { store, clock, requests } = setUp()
  for (let i = 0; i < 50; i++) {
    await store.take([HOT])
    clock.ms += 50
  }
  for (const charge of [{ ...HOT, rule: 'small', limit: 128 }, { ...HOT, rule: 'short', windowMs: 49 }, EXACT]) {
    for (let i = 0; i < 50; i++) await store.take([charge])
  }
  await turn()
  t.same(requests, [])
})

t.test('a hot budget is spent from memory until its lease ends or is used up', async t => {
  const { store, clock, asked, requests, warmUp } = setUp()
  await warmUp()
  t.match(requests, [{ leaseMs: 100, units: 40, share: 0.1, unspent: null }])
  t.strictSame(store.take([HOT]), {
    allowed: true,
    degraded: false,
    states: [{ remaining: 39, resetUs: 7, retryUs: 0 }]
  })
  t.match(store.take([{ ...HOT, cost: 3 }]), { states: [{ remaining: 36 }] })
  t.equal(asked.length, 8)
  await store.take([{ ...HOT, limit: 999 }])
  t.equal(asked.length, 9, 'a caller with a smaller limit is not admitted by a larger one')
  await store.take([{ ...HOT, cost: 37 }])
  await turn()
  t.match(requests[1], { unspent: { units: 36, stamp: '1' } }, 'too few are given back with the next question')
  clock.ms = 98.9
  t.match(store.take([HOT]), { allowed: true })
  clock.ms = 99
  const before = asked.length
  await store.take([HOT])
  t.equal(asked.length, before + 1, 'it ends a millisecond early')
  await turn()
})

t.test('all or nothing: leased units go back when the rest is refused, and when nobody answers', async t => {
  let outcome: () => StoreAnswer | Promise<StoreAnswer> = () => ({
    allowed: true,
    degraded: false,
    states: [{ remaining: 1, resetUs: 1, retryUs: 0 }]
  })
  const { store, asked, warmUp } = setUp(() => outcome())
  await warmUp()
  t.strictSame(await store.take([HOT, EXACT]), {
    allowed: true,
    degraded: false,
    states: [
      { remaining: 39, resetUs: 7, retryUs: 0 },
      { remaining: 1, resetUs: 1, retryUs: 0 }
    ]
  })
  t.strictSame(asked.at(-1), [EXACT], 'only the rest is asked')
  outcome = async () => ({ allowed: false, degraded: false, states: [{ remaining: 0, resetUs: 1, retryUs: 3 }] })
  t.strictSame(await store.take([HOT, EXACT]), {
    allowed: false,
    degraded: false,
    states: [
      { remaining: 39, resetUs: 7, retryUs: 0 },
      { remaining: 0, resetUs: 1, retryUs: 3 }
    ]
  })
  outcome = () => {
    throw new StoreUnavailable()
  }
  t.throws(() => store.take([HOT, EXACT]), { code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE' })
  outcome = async () => {
    throw new StoreUnavailable()
  }
  await t.rejects(async () => await store.take([HOT, EXACT]), { code: 'MARTY_RATE_LIMIT_STORE_UNAVAILABLE' })
  outcome = () => ({ allowed: true, degraded: true, states: [] })
  t.strictSame(await store.take([HOT, EXACT]), { allowed: true, degraded: true, states: [] }, 'let through uncounted')
  t.match(store.take([HOT]), { states: [{ remaining: 37 }] })
})

t.test('no lease is asked for while the store is gone, nor again at once when there was none to have', async t => {
  const gone = setUp(() => ({ allowed: true, degraded: true, states: [] }))
  await gone.warmUp(50)
  t.same(gone.requests, [])
  for (const answer of [
    async () => ({ units: 0, stamp: '0', resetUs: 0 }),
    async () => {
      throw new Error('refused')
    }
  ]) {
    const { leases, clock, requests, warmUp } = setUp()
    leases.answer = answer
    await warmUp()
    await warmUp(50)
    t.equal(requests.length, 1)
    clock.ms = 100
    await warmUp(50)
    t.equal(requests.length, 2)
  }
})

t.test('an answer that comes when the lease is over is worth nothing, and its units go back', async t => {
  const { leases, clock, store, asked, requests, warmUp } = setUp()
  let answer: (grant: Grant) => void = () => {}
  leases.answer = async () =>
    await new Promise(resolve => {
      answer = resolve
    })
  await warmUp()
  clock.ms = 99
  leases.answer = async () => ({ units: 0, stamp: '0', resetUs: 0 })
  answer({ units: 10, stamp: '1', resetUs: 0 })
  await turn()
  await store.take([HOT])
  t.equal(asked.length, 9)
  while (requests.length < 2) await turn()
  t.match(requests[1], { unspent: { units: 10, stamp: '1' } })
})

t.test('what is forgotten or left at the end is given back, and nothing is leased after that', async t => {
  const { store, asked, requests, warmUp } = setUp()
  await warmUp()
  store.forget([HOT, EXACT])
  t.match(requests[1], { units: 0, unspent: { units: 40, stamp: '1' } })
  await store.take([HOT])
  t.equal(asked.length, 9, 'the window is asked again')
  await warmUp()
  const closing = store.close()
  await closing
  t.match(requests.at(-1), { units: 0, unspent: { stamp: '3' } })
  const before = requests.length
  await warmUp(50)
  t.equal(requests.length, before)
})

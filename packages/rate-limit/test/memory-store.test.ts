import t from 'tap'
import { createMemoryStore, type Charge } from '@marty/rate-limit'

const charge = (subject: string, over: Partial<Charge> = {}): Charge => ({
  rule: 'r',
  subject,
  limit: 2,
  windowMs: 1000,
  cost: 1,
  ...over
})

t.test('a stamp counts for its window and not a microsecond more', async t => {
  let us = 0
  const store = createMemoryStore({ now: () => us / 1000 })
  const one = charge('a', { limit: 1 })
  t.match(store.take([one]), { allowed: true, states: [{ remaining: 0, resetUs: 1_000_000, retryUs: 1_000_000 }] })
  us = 999_875
  t.match(store.take([one]), { allowed: false, states: [{ remaining: 0, resetUs: 125, retryUs: 125 }] })
  us = 1_000_000
  t.match(store.take([one]), { allowed: true })
})

t.test('beyond maxKeys the least recently used window is forgotten, not the busiest', async t => {
  const store = createMemoryStore({ maxKeys: 3, now: () => 0 })
  for (const subject of ['a', 'b', 'c']) store.take([charge(subject)])
  store.take([charge('a')])
  store.take([charge('d')])
  t.match(store.take([charge('a')]), { allowed: false }, 'used last, so kept')
  t.match(store.take([charge('b')]), { allowed: true, states: [{ remaining: 1 }] }, 'used longest ago, so forgotten')
})

t.test('a thousand strangers, each refused afterwards, leave nothing but their own windows', async t => {
  const store = createMemoryStore({ maxKeys: 1000, now: () => 0 })
  for (let i = 0; i < 1000; i++) store.take([charge(`s${i}`, { limit: 1 })])
  let admitted = 0
  for (let i = 0; i < 1000; i++) {
    if ((store.take([charge(`s${i}`, { limit: 1 }), charge(`other${i}`)]) as { allowed: boolean }).allowed) admitted++
  }
  t.equal(admitted, 0)
  t.match(
    store.take([charge('s0', { limit: 1 })]),
    { allowed: false },
    'refused requests made no window that pushed another out'
  )
})

t.test('windows that have run empty make room before any live one is forgotten', async t => {
  let ms = 0
  const store = createMemoryStore({ maxKeys: 3, now: () => ms })
  for (const subject of ['a', 'b']) store.take([charge(subject, { windowMs: 10 })])
  store.take([charge('c', { windowMs: 100 })])
  ms = 20
  for (const subject of ['d', 'e']) store.take([charge(subject, { windowMs: 100 })])
  t.match(store.take([charge('c', { windowMs: 100 })]), { states: [{ remaining: 0 }] })
})

t.test('the window of a large limit survives growth and wrapping', async t => {
  let ms = 0
  const store = createMemoryStore({ now: () => ms })
  const large = charge('a', { limit: 1000, windowMs: 500 })
  const admitted: number[] = []
  for (ms = 0; ms < 3000; ms++) {
    for (let i = 0; i < 3; i++) if ((store.take([large]) as { allowed: boolean }).allowed) admitted.push(ms)
    const inWindow = admitted.filter(stamp => stamp > ms - 500).length
    if (inWindow > 1000) t.fail(`${inWindow} in the window that ends at ${ms}`)
  }
  t.equal(admitted.length, 6000, 'and the limit is used to the full')
})

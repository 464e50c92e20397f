import t from 'tap'
import fc from 'fast-check'
import { worstOfRules, worstWindow, type Admission, type Decision } from './window-checker.js'

/** Tries every window there is. */
function bruteForce (history: readonly Admission[], windowUs: number): number {
  let worst = 0
  const last = Math.max(0, ...history.map(({ after }) => after))
  for (let start = -windowUs; start <= last; start++) {
    let units = 0
    for (const { before, after, units: own } of history) if (before >= start && after < start + windowUs) units += own
    worst = Math.max(worst, units)
  }
  return worst
}

const decision = (at: number, over: Partial<Decision> = {}): Decision => ({
  rule: 'r',
  subject: 's',
  limit: 2,
  windowMs: 1,
  cost: 1,
  admitted: true,
  before: at,
  after: at,
  ...over
})

t.test('a window that is too full is found, wherever it lies', async t => {
  t.match(worstOfRules([0, 999, 1999, 2500, 2998].map(at => decision(at))).get('r'), {
    ratio: 1.5,
    units: 3,
    limit: 2,
    subject: 's',
    start: 1999
  })
  t.match(worstOfRules([decision(0), decision(0), decision(0, { cost: 5 })]).get('r'), { ratio: 3.5 })
})

t.test('units one window apart are in different windows, one microsecond less and they share one', async t => {
  t.equal(worstOfRules([decision(0), decision(1000)]).get('r')!.units, 1)
  t.equal(worstOfRules([decision(0), decision(999)]).get('r')!.units, 2)
})

t.test(
  'refusals do not count, subjects and rules are told apart, and the largest limit of a subject is its own',
  async t => {
    const worst = worstOfRules([
      decision(0),
      decision(1, { admitted: false }),
      decision(2, { subject: 'other' }),
      decision(3, { subject: 'other' }),
      decision(4, { rule: 'q', limit: 4 }),
      decision(5, { rule: 'q', limit: 8, cost: 3 })
    ])
    t.match(worst.get('r'), { units: 2, subject: 'other', ratio: 1 })
    t.match(worst.get('q'), { units: 4, limit: 8, ratio: 0.5 })
    t.equal(worstOfRules([]).size, 0)
  }
)

t.test('a rule whose window changed cannot be judged', async t => {
  t.throws(() => worstOfRules([decision(0), decision(1, { windowMs: 2 })]), /the rule r has windows of several lengths/)
})

t.test('what is only possibly in a window is not held against the limiter', async t => {
  t.equal(
    worstWindow(
      [
        { before: 0, after: 0, units: 1 },
        { before: 5, after: 15, units: 1 }
      ],
      10
    ),
    1
  )
})

t.test('equal to trying every window, for any history', async t => {
  const admission = fc.record({
    before: fc.nat(60),
    width: fc.oneof(fc.constant(0), fc.nat(10)),
    units: fc.integer({ min: 1, max: 4 })
  })
  fc.assert(
    fc.property(
      fc.array(
        admission.map(({ before, width, units }) => ({ before, after: before + width, units })),
        { maxLength: 40 }
      ),
      fc.integer({ min: 1, max: 50 }),
      (history, windowUs) => {
        const [ours, brutes] = [worstWindow(history, windowUs), bruteForce(history, windowUs)]
        if (ours !== brutes) throw new Error(`${ours} instead of ${brutes}`)
      }
    ),
    { numRuns: 2000 }
  )
  t.pass('held')
})

t.test('half a million decisions are judged without a table of pairs', async t => {
  const history = Array.from({ length: 500_000 }, (_, i) => decision(i * 10, { subject: String(i % 3), limit: 34 }))
  t.equal(worstOfRules(history).get('r')!.units, 34)
})

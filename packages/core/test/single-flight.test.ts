import t from 'tap'
import { KeyedSingleFlight, SingleFlight } from '@marty/core'

/** Work whose runs end when the test says so. */
function createWork () {
  const runs: Array<{ end: (result: string) => void, fail: (error: Error) => void }> = []
  const work = (): Promise<string> => new Promise((resolve, reject) => { runs.push({ end: resolve, fail: reject }) })
  return { runs, work }
}

t.test('callers that join share one run', async t => {
  const { runs, work } = createWork()
  const flight = new SingleFlight(work)
  const both = Promise.all([flight.join(), flight.join()])
  t.ok(flight.isRunning)
  runs[0]!.end('first')
  t.strictSame(await both, ['first', 'first'])
  t.notOk(flight.isRunning)

  const later = flight.join()
  t.equal(runs.length, 2, 'the next caller starts a new run')
  runs[1]!.end('second')
  t.equal(await later, 'second')
})

t.test('a rerun begins after the run in progress, and all who wait for it share it', async t => {
  const { runs, work } = createWork()
  const flight = new SingleFlight(work)
  const first = flight.rerun()
  const reruns = Promise.all([flight.rerun(), flight.rerun()])
  t.equal(flight.join(), first, 'a join takes the run in progress')
  t.equal(runs.length, 1)

  runs[0]!.end('stale')
  t.equal(await first, 'stale')
  const joined = flight.join()
  t.equal(runs.length, 2)

  runs[1]!.end('fresh')
  t.strictSame(await reruns, ['fresh', 'fresh'])
  t.equal(await joined, 'fresh')
  t.equal(runs.length, 2, 'a run that began after the call counts as the rerun')
})

t.test('a failed run fails its callers, not those of the rerun', async t => {
  const { runs, work } = createWork()
  const flight = new SingleFlight(work)
  const first = flight.join()
  const second = flight.rerun()
  runs[0]!.fail(new Error('down'))
  await t.rejects(first, { message: 'down' })
  await new Promise(setImmediate)
  runs[1]!.end('up')
  t.equal(await second, 'up')
})

t.test('only callers with the same key share a run', async t => {
  const { runs, work } = createWork()
  const flights = new KeyedSingleFlight<string, string>()
  const all = Promise.all([flights.join('a', work), flights.join('a', work), flights.join('b', work)])
  t.equal(runs.length, 2)
  runs[0]!.end('of a')
  runs[1]!.end('of b')
  t.strictSame(await all, ['of a', 'of a', 'of b'])
})

t.test('what was forgotten is not joined any more, and does not end a newer run', async t => {
  const { runs, work } = createWork()
  const flights = new KeyedSingleFlight<string, string>()
  const old = flights.join('a', work)
  flights.forget()
  const next = flights.join('a', work)
  runs[0]!.end('old')
  t.equal(await old, 'old')

  const joined = flights.join('a', work)
  t.equal(runs.length, 2)
  runs[1]!.end('next')
  t.strictSame(await Promise.all([next, joined]), ['next', 'next'])
})

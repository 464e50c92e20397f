import t from 'tap'
import { mock } from 'node:test'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { build, event, linesOf, logFile, type Line } from './service.js'
import type { SecurityEvent } from '@marty/core'

const trip = (changes: Partial<SecurityEvent> = {}): SecurityEvent =>
  event({ type: 'limit', action: 'ping', outcome: 'denied', reason: 'MARTY_RATE_LIMIT_EXCEEDED', ...changes })

const trips = (lines: readonly Line[]): Line[] =>
  lines.filter(
    line =>
      line['class_uid'] === 6003 &&
      String(line['status_code'] ?? 'MARTY_RATE_LIMIT').match(/RATE_LIMIT|OTHER/) !== null &&
      line['status'] === 'denied'
  )
const counts = (lines: readonly Line[]): unknown[] =>
  trips(lines).map(({ unmapped }) => (unmapped as { count?: number }).count ?? 'at once')

t.test('a flood of limiter trips is two records, the second with the number of the others', async t => {
  const file = logFile(t)
  const app = await build(t, { sink: { file, mode: 'sync' } })
  await app.ready()
  const first = app.guard.emit(trip({ requestId: 'the-first' }))
  const others = Array.from({ length: 29_999 }, async () => {
    await app.guard.emit(trip())
  })
  await first
  t.strictSame(counts(linesOf(file)), ['at once'], 'the first is written before anything is over')
  await Promise.all(others)
  await app.close()
  const lines = trips(linesOf(file))
  t.strictSame(counts(lines), ['at once', 29_999])
  t.match(lines, [
    { activity_name: 'ping', status: 'denied', metadata: { correlation_uid: 'the-first' } },
    {
      activity_name: 'ping',
      status: 'denied',
      status_code: 'MARTY_RATE_LIMIT_EXCEEDED',
      actor: { user: { uid: 'alice' } },
      src_endpoint: { ip: '192.0.2.1' },
      metadata: { correlation_uid: null },
      unmapped: { since: /^\d{4}-.*Z$/ }
    }
  ])
  t.equal(linesOf(file).at(-1)?.activity_name, 'service.stop', 'before the stop')
})

t.test('addresses, actions and reasons are counted apart, principals are not', async t => {
  const file = logFile(t)
  const app = await build(t, { sink: { file, mode: 'sync' } })
  await app.ready()
  const bob = { id: 'bob', kind: 'user', roles: [] } as const
  const kinds = [
    {},
    { address: null },
    { address: '192.0.2.2' },
    { action: 'pong' },
    { reason: 'OTHER' },
    { principal: bob }
  ]
  for (let round = 0; round < 2; round++) for (const kind of kinds) await app.guard.emit(trip(kind))
  await app.close()
  t.strictSame(counts(linesOf(file)), ['at once', 'at once', 'at once', 'at once', 'at once', 3, 1, 1, 1, 1])
  const summary = trips(linesOf(file))[5]
  t.match(
    summary,
    { actor: { user: { uid: 'anonymous' } }, unmapped: { count: 3, principals: 'several' } },
    'nobody is blamed for the others'
  )
})

t.test(
  'everything that is no limiter trip, and what the application records itself, is written one by one',
  async t => {
    const file = logFile(t)
    const app = await build(t, { sink: { file, mode: 'sync' } })
    await app.ready()
    for (let round = 0; round < 5; round++) {
      await app.guard.emit(trip({ type: 'authentication', outcome: 'failure' }))
      await app.audit.record(trip())
    }
    t.equal(linesOf(file).length, 11)
    await app.close()
    t.strictSame(
      counts(linesOf(file)),
      Array.from({ length: 5 }, () => 'at once')
    )
  }
)

t.test('the count is written when the minute is over, and the next trip at once again', async t => {
  const { app, lines } = await inMemory(t)
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => {
    mock.timers.reset()
  })
  for (let round = 0; round < 4; round++) await app.guard.emit(trip())
  await app.guard.emit(trip({ address: '192.0.2.9' }))
  mock.timers.tick(59_999)
  await settled()
  t.strictSame(counts(lines()), ['at once', 'at once'])
  mock.timers.tick(1)
  await settled()
  t.strictSame(counts(lines()), ['at once', 'at once', 3], 'who came once is not told twice')
  mock.timers.tick(120_000)
  await app.guard.emit(trip())
  t.strictSame(counts(lines()), ['at once', 'at once', 3, 'at once'])
})

t.test('many addresses do not make it grow without bound', async t => {
  const { app, lines } = await inMemory(t)
  const emitted = Array.from({ length: 10_500 }, async (_, at) => {
    await app.guard.emit(trip({ address: `2001:db8::${at.toString(16)}` }))
  })
  await Promise.all(emitted)
  t.equal(trips(lines()).length, 10_000)
  await app.guard.emit(trip({ address: '2001:db8::0' }))
  await app.close()
  t.strictSame(counts(lines()).slice(10_000), [1, 500])
  t.match(trips(lines()).at(-1), {
    activity_name: 'limit.others',
    status: 'denied',
    status_code: null,
    src_endpoint: { ip: null }
  })
})

t.test('when the first cannot be written, its caller hears it', async t => {
  let broken = false
  const app = await build(t, {
    sink: {
      write () {
        if (broken) throw new Error('no space left')
      }
    }
  })
  await app.ready()
  broken = true
  await app.guard.emit(trip()).catch(() => {})
  for (let round = 0; round < 3; round++) await app.guard.emit(trip())
  t.match(app.audit.health(), { status: 'unhealthy', details: { lostEvents: 1 } })
  await app.close()
})

async function inMemory (t: Test): Promise<{ app: FastifyInstance; lines: () => Line[] }> {
  let text = ''
  const app = await build(t, {
    sink: {
      write (more) {
        text += more
      }
    }
  })
  await app.ready()
  return {
    app,
    lines: () =>
      text
        .split('\n')
        .filter(line => line !== '')
        .map(line => JSON.parse(line) as Line)
  }
}

/** Everything that waits for no timer has happened. */
async function settled (): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await new Promise(resolve => setImmediate(resolve))
}

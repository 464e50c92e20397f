import t from 'tap'
import { audit, type AuditSink } from '@marty/audit'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { until } from '@marty/testing'
import { event, logFile, PRODUCT, type Line } from './service.js'

async function open (t: Test, sink: AuditSink): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(audit, { sink, product: PRODUCT })
  return app
}

t.test('more events than fit the queue are refused, counted and told', async t => {
  let text = ''
  let release = (): void => {}
  const app = await open(t, {
    async write (lines) {
      text += lines
      if (text === lines) {
        await new Promise<void>(resolve => {
          release = resolve
        })
      }
    }
  })
  const details = Object.fromEntries(Array.from({ length: 32 }, (_, index) => [`d${index}`, 'x'.repeat(256)]))
  const first = app.audit.record(event())
  await until(() => text !== '', 'the sink to be busy')
  let refused = 0
  const waiting = Array.from({ length: 5_000 }, async () => {
    await app.audit.record(event({ details })).catch(() => {
      refused++
    })
  })
  await until(() => refused > 0, 'the queue to be full')
  t.match(await app.audit.record(event({ details })).catch((error: unknown) => error), {
    code: 'MARTY_AUDIT_UNAVAILABLE',
    message: /More events/
  })
  refused++
  t.equal(app.audit.health().details.lostEvents, refused)
  release()
  await Promise.all([first, ...waiting])
  await app.audit.record(event())
  await app.close()
  const lines = text
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Line)
  t.match(
    lines.filter(line => line.activity_name === 'audit.gap'),
    [{ lost_events: refused }]
  )
  t.equal(lines.length, 1 + 5_000 - (refused - 1) + 1 + 1 + 1)
})

t.test('async: a queue that is full loses events, and says so', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(audit, { sink: { file: logFile(t), mode: 'async' }, product: PRODUCT })
  const details = Object.fromEntries(Array.from({ length: 32 }, (_, index) => [`d${index}`, 'x'.repeat(256)]))
  for (let i = 0; i < 5_000; i++) void app.audit.record(event({ details }))
  t.ok(app.audit.health().details.lostEvents > 100)
  await until(() => app.audit.health().details.queued === 0, 'the queue to be written')
  t.equal(app.audit.health().status, 'healthy')
})

t.test('a sink that fails with something that is no error is told too', async t => {
  // eslint-disable-next-line prefer-promise-reject-errors
  const app = await open(t, { write: async () => await Promise.reject('no reason') })
  await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE' })
  t.equal(app.audit.health().details.lastError, 'unknown error')
})

t.test('a sink that cannot be closed is told, and closing again does nothing', async t => {
  const logged: string[] = []
  let closed = 0
  const app = Fastify({
    logger: {
      stream: {
        write (line: string) {
          logged.push(line)
        }
      }
    }
  })
  await app.register(audit, {
    sink: {
      write () {},
      close () {
        closed++
        throw new Error('EIO')
      }
    },
    product: PRODUCT
  })
  await app.close()
  t.equal(closed, 1)
  t.match(logged.join(''), /not closed properly/)
})

t.test('standard output', async t => {
  const app = Fastify()
  const write = process.stdout.write
  const lines: string[] = []
  let broken = false
  // The test reports to standard output too.
  process.stdout.write = ((text: string, ...rest: [(error?: Error) => void]) => {
    if (!text.startsWith('{"seq"')) return Reflect.apply(write, process.stdout, [text, ...rest])
    lines.push(text)
    rest[0](broken ? new Error('EPIPE') : undefined)
    return true
  }) as typeof write
  t.teardown(() => {
    process.stdout.write = write
  })
  await app.register(audit, { sink: 'stdout', product: PRODUCT })
  await app.audit.record(event())
  broken = true
  await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE' })
  await app.close()
  process.stdout.write = write
  t.match(JSON.parse(lines[0]!), { seq: 1, activity_name: 'test.act' })
})

t.test('all who wait for a sink that is away are told at once', async t => {
  let resumes = 0
  let broken = false
  const app = await open(t, {
    write () {
      if (broken) throw new Error('EIO')
    },
    resume () {
      if (++resumes > 1 && broken) throw new Error('away')
      return { head: { seq: 0, hash: '0'.repeat(64) }, torn: Buffer.alloc(0) }
    }
  })
  await app.audit.record(event())
  broken = true
  resumes = 1
  await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE' })
  const outcomes = await Promise.allSettled(
    Array.from({ length: 500 }, async () => {
      await app.audit.record(event())
    })
  )
  t.ok(outcomes.every(({ status }) => status === 'rejected'))
  t.ok(resumes < 5, `looked ${resumes} times`)
  t.equal(app.audit.health().details.lostEvents, 501)
})

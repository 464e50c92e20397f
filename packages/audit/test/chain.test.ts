import t from 'tap'
import { appendFileSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { audit, verifyAuditLog } from '@marty/audit'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { until } from '@marty/testing'
import { event, linesOf, logFile, PRODUCT } from './service.js'

async function open (t: Test, file: string, mode: 'sync' | 'async' = 'sync'): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(audit, { sink: { file, mode }, product: PRODUCT })
  return app
}

/** A log of so many events, closed. */
async function written (t: Test, file: string, events: number): Promise<string[]> {
  const app = await open(t, file)
  for (let i = 1; i <= events; i++) await app.audit.record(event({ action: `act.${i}` }))
  await app.close()
  return readFileSync(file, 'utf8').split('\n').slice(0, -1)
}

t.test('the chain goes on after a restart', async t => {
  const file = logFile(t)
  const first = await written(t, file, 3)
  const second = await written(t, file, 3)
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.strictSame(second.slice(0, first.length), first)
  t.match(await verifyAuditLog(file), { ok: true, records: second.length, gaps: [] })
  t.strictSame(
    linesOf(file).map(line => line.seq),
    linesOf(file).map((_, index) => index + 1)
  )
})

t.test('a torn last line is marked by the next start, wherever it was torn', async t => {
  const template = logFile(t)
  const lines = await written(t, template, 3)
  const whole = readFileSync(template)
  const last = lines.at(-1)!.length + 1
  for (const cut of [1, 2, 40, 80, last - 1]) {
    const file = logFile(t)
    await written(t, file, 0)
    writeFileSync(file, whole.subarray(0, whole.length - cut))
    t.match(
      await verifyAuditLog(file),
      {
        ok: true,
        records: cut === 1 ? lines.length : lines.length - 1,
        warnings: cut === 1 ? [] : [{ kind: 'torn', line: lines.length }]
      },
      `cut ${cut}`
    )
    await written(t, file, 1)
    const verified = await verifyAuditLog(file)
    const torn = last - cut
    if (cut === 1) {
      t.match(verified, { ok: true, gaps: [] }, 'only the newline was missing: nothing is lost')
    } else {
      t.match(verified, { ok: true, gaps: [{ line: lines.length + 1 }] }, `cut ${cut}`)
      t.ok(readFileSync(file, 'utf8').includes(`"torn_bytes":${torn + 1},`))
    }
    const text = readFileSync(file, 'utf8')
    writeFileSync(
      file,
      text.replace(lines.at(-1)!.slice(0, Math.min(20, torn)), character => 'x'.repeat(character.length))
    )
    t.match(await verifyAuditLog(file), { ok: false }, 'the torn bytes themselves are covered')
  }
})

t.test('a file torn in its first line, and one torn twice, go on', async t => {
  const file = logFile(t)
  await written(t, file, 1)
  truncateSync(file, 30)
  await written(t, file, 1)
  t.match(await verifyAuditLog(file), { ok: true, gaps: [{ line: 2 }], head: { seq: 3 } })
  appendFileSync(file, '{"seq":4,"time')
  await written(t, file, 1)
  appendFileSync(file, '{"se\n{"seq"')
  await written(t, file, 1)
  t.match(await verifyAuditLog(file), { ok: true, gaps: { length: 3 } })
})

t.test('what is no torn record is marked, but not excused', async t => {
  for (const foreign of ['dear diary', '{"seq":99,"time', '{"seq":1}']) {
    const file = logFile(t)
    await written(t, file, 1)
    appendFileSync(file, foreign)
    await written(t, file, 1)
    t.match(await verifyAuditLog(file), { ok: false, kind: 'edited', line: 3 }, foreign)
  }
})

t.test('an altered last record is not laundered by a restart', async t => {
  const file = logFile(t)
  const lines = await written(t, file, 2)
  writeFileSync(file, [...lines.slice(0, -1), lines.at(-1)!.replace('success', 'failure')].join('\n') + '\n')
  await written(t, file, 1)
  t.match(await verifyAuditLog(file), { ok: false, line: lines.length, kind: 'edited' })
})

t.test('a file that is no audit log is refused and left alone', async t => {
  const file = logFile(t)
  await written(t, file, 0)
  writeFileSync(file, 'dear diary\nline two\n')
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(async () => await app.register(audit, { sink: { file, mode: 'sync' }, product: PRODUCT }), {
    code: 'MARTY_AUDIT_FILE_INVALID'
  })
  t.equal(readFileSync(file, 'utf8'), 'dear diary\nline two\n')
})

t.test('sync: order is kept under concurrency, and what settled is in the file', async t => {
  const file = logFile(t)
  const app = await open(t, file)
  await app.ready()
  let settled = 0
  const order: number[] = []
  await Promise.all(
    Array.from({ length: 2_500 }, async (_, index) => {
      await app.audit.record(event({ action: `act.${index}` }))
      order.push(index)
      if (++settled === 1) t.ok(readFileSync(file, 'utf8').includes('"act.0"'), 'in the file when it settles')
    })
  )
  t.strictSame(
    order,
    Array.from({ length: 2_500 }, (_, index) => index)
  )
  t.strictSame(
    linesOf(file)
      .filter(line => line.activity_name.startsWith('act.'))
      .map(line => line.activity_name),
    order.map(index => `act.${index}`)
  )
  t.match(await verifyAuditLog(file), { ok: true, gaps: [] })
  await app.close()
  await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE', message: /closed/ })
})

t.test('async: events are written in batches, and all of them when closed', async t => {
  const file = logFile(t)
  const app = await open(t, file, 'async')
  await app.audit.record(event({ action: 'act.first' }))
  await until(() => readFileSync(file, 'utf8').includes('act.first'), 'the batch to be written by itself')
  await Promise.all(
    Array.from({ length: 3_000 }, async (_, index) => {
      await app.audit.record(event({ action: `act.${index}` }))
    })
  )
  await app.close()
  t.equal(linesOf(file).filter(line => line.activity_name.startsWith('act.')).length, 3_001)
  t.match(await verifyAuditLog(file), { ok: true, gaps: [] })
})

t.test('a full disk loses events loudly, and the chain goes on when there is room again', async t => {
  // /dev/full answers every write with ENOSPC, as a full disk does.
  const file = logFile(t)
  await written(t, file, 0)
  rmSync(file)
  symlinkSync('/dev/full', file)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(audit, { sink: { file, mode: 'sync' }, product: PRODUCT })
  await app.ready()
  await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE' })
  t.match(app.audit.health(), { status: 'unhealthy', details: { sink: 'file', lastError: 'ENOSPC', lostEvents: 2 } })
  rmSync(file)
  await app.audit.record(event({ action: 'act.after' }))
  t.match(app.audit.health(), { status: 'healthy', details: { lostEvents: 2 } })
  t.match(linesOf(file), [{ activity_name: 'audit.gap', lost_events: 2 }, { activity_name: 'act.after' }])
  t.match(await verifyAuditLog(file), { ok: true, gaps: [{ line: 1 }] })
})

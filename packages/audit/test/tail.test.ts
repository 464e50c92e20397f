import t from 'tap'
import { appendFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { audit, tailAuditLog, type AuditLine, type TailOptions } from '@marty/audit'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { until } from '@marty/testing'
import { event, linesOf, logFile, PRODUCT } from './service.js'

async function open (t: Test, file: string, maxBytes = 2_400): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(audit, { sink: { file, mode: 'sync', rotate: { maxBytes } }, product: PRODUCT })
  return app
}

/** Collects what is yielded until it is stopped. */
function follow (
  t: Test,
  file: string,
  options: Omit<TailOptions, 'signal' | 'follow'> = {}
): { seen: AuditLine[]; stop: () => Promise<void> } {
  const controller = new AbortController()
  const seen: AuditLine[] = []
  const running = (async () => {
    for await (const line of tailAuditLog(file, { ...options, follow: true, signal: controller.signal })) {
      seen.push(line)
    }
  })()
  const stop = async (): Promise<void> => {
    controller.abort()
    await running
  }
  t.teardown(stop)
  return { seen, stop }
}

async function all (file: string, options?: TailOptions): Promise<number[]> {
  const seqs: number[] = []
  for await (const { seq } of tailAuditLog(file, options)) seqs.push(seq)
  return seqs
}

const numbers = (from: number, to: number): number[] =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index)

t.test('what is there is told once, in order, through all files', async t => {
  const file = logFile(t)
  t.strictSame(await all(file), [], 'no log, no records')
  const app = await open(t, file)
  for (let i = 0; i < 20; i++) await app.audit.record(event())
  t.strictSame(await all(file), numbers(1, 20))
  t.strictSame(await all(file, { from: 8 }), numbers(8, 20))
  t.strictSame(await all(file, { from: 1_000 }), [])
  t.strictSame(await all(file, { from: 'end' }), [])
  appendFileSync(file, 'dear diary\n{"seq":"x"}\n{"seq":21,"half')
  t.strictSame(await all(file), numbers(1, 20), 'what is no whole record is left out')
})

t.test('what comes is told, through rotations', async t => {
  const file = logFile(t)
  const early = follow(t, file)
  const app = await open(t, file)
  await app.audit.record(event())
  await until(() => early.seen.length === 1, 'a log that did not exist')
  const late = follow(t, file, { from: 5 })
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) await app.audit.record(event())
    await until(() => early.seen.length === 1 + (round + 1) * 20, `round ${round}`)
  }
  await until(() => late.seen.length === 57, 'the other reader')
  await Promise.all([early.stop(), late.stop()])
  t.strictSame(
    early.seen.map(({ seq }) => seq),
    numbers(1, 61)
  )
  t.strictSame(
    late.seen.map(({ seq }) => seq),
    numbers(5, 61)
  )
})

t.test('from the end, only what comes from now on is told', async t => {
  const file = logFile(t)
  const app = await open(t, file, 1_000_000)
  for (let i = 0; i < 5; i++) await app.audit.record(event())
  const { seen, stop } = follow(t, file, { from: 'end' })
  await until(async () => {
    await app.audit.record(event({ action: 'later' }))
    return seen.length > 0
  }, 'a record')
  await stop()
  t.ok(seen.every(line => line['activity_name'] === 'later'))
  const none = logFile(t)
  const started = follow(t, none, { from: 'end' })
  const other = await open(t, none)
  await until(async () => {
    await other.audit.record(event())
    return started.seen.length > 0
  }, 'a record of a new log')
})

t.test('a line is told when it is whole, and an enormous one is passed over', async t => {
  const file = logFile(t)
  const app = await open(t, file)
  await app.audit.record(event())
  await app.close()
  const text = linesOf(file).map(line => `${JSON.stringify(line)}\n`)
  writeFileSync(file, text[0]! + text[1]!.slice(0, 50))
  const { seen, stop } = follow(t, file)
  await until(() => seen.length === 1, 'the whole line')
  appendFileSync(file, text[1]!.slice(50))
  await until(() => seen.length === 2, 'the other half')
  appendFileSync(file, `${'x'.repeat(3_000_000)}\n${text[1]!}`)
  await until(() => seen.length === 3, 'the line behind the enormous one')
  renameSync(file, `${file}.1`)
  writeFileSync(file, text[0]!)
  await until(() => seen.length === 4, 'the file that took its place')
  rmSync(file)
  await stop()
  t.strictSame(
    seen.map(({ seq }) => seq),
    [1, 2, 2, 1]
  )
})

t.test('what cannot be read is an error, not an empty log', async t => {
  const file = logFile(t)
  mkdirSync(file, { recursive: true })
  await t.rejects(all(file), { code: 'EISDIR' })
  const notAFolder = logFile(t)
  await (await open(t, notAFolder)).close()
  await t.rejects(all(`${notAFolder}/audit.log`), { code: 'ENOTDIR' })
})

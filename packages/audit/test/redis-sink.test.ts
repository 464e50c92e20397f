import t from 'tap'
import { generateKeyPairSync } from 'node:crypto'
import { dirname } from 'node:path'
import { mkdirSync, writeFileSync } from 'node:fs'
import {
  audit,
  verifyAuditLog,
  type AuditCheckpoints,
  type RedisSinkOptions,
  type SignedCheckpoint
} from '@marty/audit'
import { openRedis, type RedisConnection } from '@marty/redis'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { freePort, type RedisServer, startRedis, until } from '@marty/testing'
import { event, logFile, PRODUCT, type Line } from './service.js'

const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const STREAM = 'marty:audit:replica-1'

/** Only who stops Redis is in a hurry: a busy machine may take its time. */
async function redisFor (
  t: Test,
  commandTimeoutMs = 10_000
): Promise<{ server: RedisServer; connection: RedisConnection; port: number }> {
  const port = await freePort()
  const server = await startRedis(port)
  t.teardown(() => server.stop())
  return { server, connection: await connect(t, port, commandTimeoutMs), port }
}

async function connect (t: Test, port: number, commandTimeoutMs: number): Promise<RedisConnection> {
  const connection = openRedis({ url: `redis://127.0.0.1:${port}`, commandTimeoutMs })
  t.teardown(() => connection.close())
  await connection.ready(5_000)
  return connection
}

async function open (
  t: Test,
  { client }: RedisConnection,
  options: Partial<RedisSinkOptions> = {},
  checkpoints?: Partial<AuditCheckpoints>
): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(audit, {
    sink: { redis: client, stream: STREAM, ...options },
    product: PRODUCT,
    ...(checkpoints === undefined ? {} : { checkpoints: { key: privateKey, ...checkpoints } })
  })
  return app
}

async function entries ({ client }: RedisConnection): Promise<string[]> {
  return (await client.xrange(STREAM, '-', '+')).map(([, members]) => members[1]!)
}

/** The stream as a file, which can be verified like any other. */
async function asFile (t: Test, connection: RedisConnection): Promise<string> {
  const file = logFile(t)
  mkdirSync(dirname(file))
  writeFileSync(file, (await entries(connection)).map(line => `${line}\n`).join(''))
  return file
}

t.test('a second writer takes the stream over; the first is refused for good, with the reason', async t => {
  const { connection } = await redisFor(t)
  const first = await open(t, connection)
  await first.audit.record(event({ action: 'first.1' }))
  const second = await open(t, connection)
  await second.audit.record(event({ action: 'second.1' }))
  for (let i = 0; i < 3; i++) {
    const error = await first.audit.record(event({ action: 'first.2' })).then(
      () => null,
      (error: Error) => error
    )
    t.match(error, {
      code: 'MARTY_AUDIT_UNAVAILABLE',
      cause: { code: 'MARTY_AUDIT_STREAM_TAKEN', message: /replica-1.*stream of its own/ }
    })
    await second.audit.record(event({ action: `second.${i + 2}` }))
  }
  t.match(first.audit.health(), {
    status: 'unhealthy',
    details: { sink: 'redis', lastError: 'MARTY_AUDIT_STREAM_TAKEN', lostEvents: 3 }
  })
  await second.close()
  t.match(
    await verifyAuditLog(await asFile(t, connection)),
    { ok: true, gaps: { length: 1 } },
    'one chain, with a marker where the first did not end in order'
  )
})

t.test('a stream that is something else is refused', async t => {
  const { connection } = await redisFor(t)
  await connection.client.xadd(STREAM, '*', 'record', 'dear diary')
  await t.rejects(open(t, connection), { code: 'MARTY_AUDIT_FILE_INVALID', message: /replica-1.*stream of its own/ })
  await connection.client.set(STREAM, 'x')
  const app = await open(t, connection)
  t.match(app.audit.health(), { status: 'unhealthy' })
  await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE' })
})

for (const mode of ['sync', 'async'] as const) {
  t.test(`${mode}: order is kept, the chain goes on after a restart, and checkpoints cover it`, async t => {
    const { connection } = await redisFor(t)
    const checkpoints: SignedCheckpoint[] = []
    for (let run = 0; run < 2; run++) {
      const app = await open(
        t,
        connection,
        { mode },
        {
          onCheckpoint (checkpoint) {
            checkpoints.push(checkpoint)
          }
        }
      )
      await Promise.all(
        Array.from({ length: 1_500 }, async (_, index) => {
          await app.audit.record(event({ action: `act.${run}.${index}` }))
        })
      )
      if (mode === 'sync') {
        t.equal(await connection.client.xlen(STREAM), run === 0 ? 1_500 : 3_002, 'what settled is there')
      }
      await app.close()
    }
    const lines = (await entries(connection)).map(line => JSON.parse(line) as Line)
    t.strictSame(
      lines.map(({ seq }) => seq),
      lines.map((_, index) => index + 1)
    )
    t.strictSame(
      lines.filter(line => line.activity_name.startsWith('act.')).map(line => line.activity_name),
      [0, 1].flatMap(run => Array.from({ length: 1_500 }, (_, index) => `act.${run}.${index}`))
    )
    t.match(await verifyAuditLog(await asFile(t, connection), { publicKey, checkpoints }), {
      ok: true,
      gaps: [],
      signedSeq: 3_003,
      unproven: []
    })
    t.match(
      lines[1_501],
      { activity_name: 'audit.unproven', unproven: { after_seq: 0, last_seq: 1_501 } },
      'a run without a file of checkpoints can vouch for nothing itself'
    )
    t.ok((await connection.client.pttl(STREAM)) > 364 * 86_400_000)
  })
}

t.test('a stream is as long as it may be, and its chain goes on', async t => {
  const { connection } = await redisFor(t)
  const app = await open(t, connection, { maxRecords: 200, mode: 'async' })
  for (let i = 0; i < 1_000; i++) await app.audit.record(event())
  await app.close()
  t.ok((await connection.client.xlen(STREAM)) < 400)
  await connection.client.xtrim(STREAM, 'MAXLEN', 1)
  const again = await open(t, connection, { maxRecords: 200 })
  await again.audit.record(event())
  t.equal(JSON.parse((await entries(connection)).at(-1)!).seq, 1_002)
})

t.test('a stream that was set back is not written on', async t => {
  const { connection } = await redisFor(t)
  const checkpoints = `${logFile(t)}.heads`
  const app = await open(t, connection, {}, { file: checkpoints })
  await app.audit.record(event())
  await app.close()
  await connection.client.del(STREAM)
  await t.rejects(open(t, connection, {}, { file: checkpoints }), {
    code: 'MARTY_AUDIT_FILE_INVALID',
    message: /ends with record 0/
  })
})

t.test('sync: what a Redis that is away does not take is refused, and told when it is back', async t => {
  const { connection, server } = await redisFor(t, 250)
  const app = await open(t, connection)
  await app.audit.record(event({ action: 'before' }))
  server.child.kill('SIGSTOP')
  for (let i = 0; i < 3; i++) {
    await t.rejects(app.audit.record(event({ action: 'meanwhile' })), { code: 'MARTY_AUDIT_UNAVAILABLE' })
  }
  t.match(app.audit.health(), { status: 'unhealthy', details: { lostEvents: 3, lastError: 'MARTY_AUDIT_UNAVAILABLE' } })
  server.child.kill('SIGCONT')
  await until(
    async () =>
      await app.audit.record(event({ action: 'after' })).then(
        () => true,
        () => false
      ),
    'Redis to be back'
  )
  const told = app.audit.health().details.lostEvents
  await app.close()
  const lines = (await entries(connection)).map(line => JSON.parse(line) as Line)
  t.match(
    lines.find(line => line.activity_name === 'audit.gap'),
    { lost_events: Number }
  )
  t.ok(told >= 3)
  t.match(await verifyAuditLog(await asFile(t, connection)), { ok: true })
})

t.test('async: events wait for a Redis that is frozen or starts late, and each is written once', async t => {
  const { connection, server, port } = await redisFor(t, 250)
  const app = await open(t, connection, { mode: 'async' })
  await app.audit.record(event({ action: 'act.0' }))
  await until(async () => (await connection.client.xlen(STREAM)) === 1, 'the first')
  server.child.kill('SIGSTOP')
  for (let i = 1; i < 2_500; i++) await app.audit.record(event({ action: `act.${i}` }))
  await until(() => app.audit.health().status === 'unhealthy', 'the failure')
  server.child.kill('SIGCONT')
  await until(() => app.audit.health().details.queued === 0, 'the queue to be written', 30_000)
  await app.close()
  const lines = (await entries(connection)).map(line => JSON.parse(line) as Line)
  t.strictSame(
    lines.filter(line => line.activity_name.startsWith('act.')).map(line => line.activity_name),
    Array.from({ length: 2_500 }, (_, index) => `act.${index}`)
  )
  t.match(await verifyAuditLog(await asFile(t, connection)), { ok: true })
  t.equal(app.audit.health().details.lostEvents, 0)

  await server.stop()
  const late = await open(t, connection, { mode: 'async' })
  t.match(late.audit.health(), { status: 'unhealthy' })
  await late.audit.record(event({ action: 'early' }))
  const next = await startRedis(port)
  t.teardown(() => next.stop())
  await until(
    () => late.audit.health().status === 'healthy' && late.audit.health().details.queued === 0,
    'Redis to be taken up',
    30_000
  )
  t.match(JSON.parse((await entries(connection))[0]!), { seq: 1, activity_name: 'early' })
  await next.stop()
  await late.audit.record(event({ action: 'too.late' }))
  await late.close()
  t.match(late.audit.health().details.lostEvents, 2, 'what nobody takes until the end is lost, and counted')
})

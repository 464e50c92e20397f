import t from 'tap'
import { mock } from 'node:test'
import { generateKeyPairSync } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { audit, verifyAuditLog, type FileSinkOptions } from '@marty/audit'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { until } from '@marty/testing'
import { event, linesOf, logFile, PRODUCT } from './service.js'

const { privateKey, publicKey } = generateKeyPairSync('ed25519')
const DAY_SECONDS = 86_400
const DAY_MS = DAY_SECONDS * 1000

async function open (
  t: Test,
  options: Partial<FileSinkOptions> & { file: string },
  logged: string[] = [],
  checkpoints = true
): Promise<FastifyInstance> {
  const app = Fastify({
    logger: {
      stream: {
        write (line: string) {
          logged.push(line)
        }
      }
    }
  })
  t.teardown(() => app.close())
  await app.register(audit, {
    sink: { mode: 'sync', ...options },
    product: PRODUCT,
    ...(checkpoints ? { checkpoints: { key: privateKey } } : {})
  })
  return app
}

const rotated = (file: string): string[] =>
  readdirSync(dirname(file))
    .filter(name => name.endsWith('.log') && name !== basename(file))
    .sort()

/** A log in several files of about three records; the clock moves on by `step` before each. */
async function written (t: Test, file: string, events: number, step = 0): Promise<void> {
  const app = await open(t, { file, rotate: { maxBytes: 2_400 } })
  for (let i = 0; i < events; i++) {
    if (step > 0) mock.timers.tick(step)
    await app.audit.record(event({ action: `act.${i}` }))
  }
  await app.close()
}

t.test('a full file is renamed after its first record, and the chain goes on in the next', async t => {
  const file = logFile(t)
  await written(t, file, 20)
  const names = rotated(file)
  t.ok(names.length >= 4)
  t.equal(names[0], 'audit-0000000000000001.log')
  for (const name of names) {
    const lines = linesOf(join(dirname(file), name))
    t.equal(lines[0]!.seq, Number(/\d{16}/.exec(name)![0]))
    t.ok(readFileSync(join(dirname(file), name)).length <= 2_400)
  }
  t.match(await verifyAuditLog(file, { publicKey }), {
    ok: true,
    records: 21,
    gaps: [],
    signedSeq: 21,
    files: { length: names.length + 1 }
  })
  const checkpoints = readFileSync(`${file}.heads`, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map(line => (JSON.parse(line) as { seq: number }).seq)
  const ends = names.map(name => linesOf(join(dirname(file), name)).at(-1)!.seq)
  t.strictSame(
    ends.filter(end => !checkpoints.includes(end)),
    [],
    'the end of each file is signed'
  )
  await written(t, file, 3)
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true, records: 25, gaps: [] }, 'after a restart too')
})

t.test('an old file is renamed; one without rotation is not', async t => {
  mock.timers.enable({ apis: ['Date'], now: Date.now() })
  t.teardown(() => {
    mock.timers.reset()
  })
  const file = logFile(t)
  let app = await open(t, { file })
  await app.audit.record(event())
  mock.timers.tick(DAY_MS)
  await app.audit.record(event())
  t.strictSame(rotated(file), [])
  await app.close()
  mock.timers.tick(1)
  app = await open(t, { file })
  await app.audit.record(event())
  t.strictSame(
    rotated(file),
    ['audit-0000000000000001.log'],
    'its age counts from its first record, also after a restart'
  )
  t.match(linesOf(file), [{ seq: 4 }])
  await app.close()
  app = await open(t, { file, rotate: false })
  mock.timers.tick(100 * DAY_MS)
  await app.audit.record(event())
  await app.close()
  t.equal(rotated(file).length, 1)
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true })
})

t.test('a crash anywhere in a rotation is survived', async t => {
  const states: Array<[string, (file: string) => void, object]> = [
    [
      'renamed, not created',
      file => {
        renameSync(file, join(dirname(file), `audit-${String(linesOf(file)[0]!.seq).padStart(16, '0')}.log`))
      },
      { gaps: [] }
    ],
    [
      'created, nothing written',
      file => {
        renameSync(file, join(dirname(file), `audit-${String(linesOf(file)[0]!.seq).padStart(16, '0')}.log`))
        writeFileSync(file, '')
      },
      { gaps: [] }
    ],
    [
      'the first line half written',
      file => {
        const next = linesOf(file).at(-1)!.seq + 1
        renameSync(file, join(dirname(file), `audit-${String(linesOf(file)[0]!.seq).padStart(16, '0')}.log`))
        writeFileSync(file, `{"seq":${next},"ti`)
      },
      { gaps: { length: 1 } }
    ],
    [
      'and its marker too',
      file => {
        const next = linesOf(file).at(-1)!.seq + 1
        renameSync(file, join(dirname(file), `audit-${String(linesOf(file)[0]!.seq).padStart(16, '0')}.log`))
        writeFileSync(file, `{"seq":${next},"ti\n{"seq":${next}`)
      },
      { gaps: { length: 1 } }
    ]
  ]
  for (const [what, crash, expected] of states) {
    const file = logFile(t)
    await written(t, file, 10)
    crash(file)
    await written(t, file, 3)
    t.match(await verifyAuditLog(file, { publicKey }), { ok: true, ...expected }, what)
  }
})

t.test('a rotation that fails loses nothing, is told, and is tried again', async t => {
  const file = logFile(t)
  const logged: string[] = []
  const app = await open(t, { file, rotate: { maxBytes: 1_000 } }, logged)
  const target = join(dirname(file), 'audit-0000000000000001.log')
  await app.audit.record(event())
  writeFileSync(target, 'dear diary')
  for (let i = 0; i < 3; i++) await app.audit.record(event())
  t.equal(readFileSync(target, 'utf8'), 'dear diary', 'nothing is written over')
  t.match(logged.join(''), /cannot be rotated.*|in the way/)
  t.equal(linesOf(file).length, 4)
  rmSync(target)
  await app.audit.record(event())
  t.equal(linesOf(target).length, 4)
  await app.close()
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true, records: 6 })
})

t.test(
  'a file that somebody else moves, deletes or writes to while it is written is noticed, and the chain goes on',
  async t => {
    const harm: Array<[string, (file: string) => void]> = [
      [
        'deleted',
        file => {
          rmSync(file)
        }
      ],
      [
        'moved',
        file => {
          renameSync(file, `${file}.1`)
        }
      ],
      [
        'cut off',
        file => {
          truncateSync(file, 10)
        }
      ],
      [
        'written to',
        file => {
          writeFileSync(file, 'x', { flag: 'a' })
        }
      ]
    ]
    for (const [what, change] of harm) {
      const file = logFile(t)
      const app = await open(t, { file }, [], false)
      await app.audit.record(event())
      change(file)
      await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE' }, what)
      t.match(app.audit.health().details, { lostEvents: 1, lastError: 'MARTY_AUDIT_FILE_INVALID' })
      await app.audit.record(event())
      t.ok(readFileSync(file, 'utf8').includes('"lost_events":1'), what)
      await app.close()
    }
  }
)

t.test('files that are too old are deleted, and the log says so', async t => {
  mock.timers.enable({ apis: ['Date'], now: Date.now() })
  t.teardown(() => {
    mock.timers.reset()
  })
  const file = logFile(t)
  await written(t, file, 20, DAY_MS)
  const before = rotated(file)
  const ends = before.map(name => linesOf(join(dirname(file), name)).at(-1)!)
  const app = await open(t, { file, rotate: { maxBytes: 2_400 }, retention: { maxAgeSeconds: 10 * DAY_SECONDS } })
  await until(
    () => rotated(file).length < before.length && !existsSync(join(dirname(file), before[0]!)),
    'old files to be deleted'
  )
  await app.audit.record(event())
  await app.close()
  const left = rotated(file)
  const gone = before.filter(name => !left.includes(name))
  const last = ends[gone.length - 1]!
  t.ok(gone.length >= 2 && left.length >= 2, `${gone.length} of ${before.length}`)
  t.ok(Date.now() - (last['time'] as number) > 10 * DAY_MS)
  const records = [...left.map(name => join(dirname(file), name)), file].flatMap(linesOf)
  t.match(
    records.find(line => line.activity_name === 'audit.prune'),
    { class_uid: 1008, activity_id: 2, first_seq: 1, last_seq: last.seq, last_hash: last.hash }
  )
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true, records: records.length })

  const first = join(dirname(file), left[0]!)
  const text = readFileSync(first, 'utf8')
  rmSync(first)
  t.match(
    await verifyAuditLog(file, { publicKey }),
    { ok: false, kind: 'deleted', line: 1 },
    'only what the record names may be gone'
  )
  writeFileSync(first, text.split('\n').slice(1).join('\n'))
  t.match(await verifyAuditLog(file, { publicKey }), { ok: false, kind: 'deleted', line: 1 }, 'to the record')
  const lines = text.split('\n')
  writeFileSync(first, lines.with(1, lines[1]!.replace('alice', 'mallo')).join('\n'))
  t.match(
    await verifyAuditLog(file, { publicKey }),
    { ok: false, kind: 'edited', line: 2 },
    'a log whose beginning was deleted is verified like any other'
  )
  writeFileSync(first, text)
  writeFileSync(join(dirname(file), gone.at(-1)!), 'not dated\n')
  t.match(await verifyAuditLog(file, { publicKey }), {
    ok: false,
    kind: 'edited',
    line: 1,
    file: join(dirname(file), gone.at(-1)!)
  })
  await (await open(t, { file, retention: { maxAgeSeconds: DAY_SECONDS } })).close()
  t.ok(rotated(file).includes(left[0]!), 'what cannot be dated is kept, and what follows it')
})

t.test('files that cannot be deleted are told, and deleted the next time', async t => {
  mock.timers.enable({ apis: ['Date'], now: Date.now() })
  t.teardown(() => {
    mock.timers.reset()
  })
  const file = logFile(t)
  await written(t, file, 10, DAY_MS)
  mock.timers.tick(10 * DAY_MS)
  const inTheWay = join(dirname(file), 'audit-0000000000000000.log')
  mkdirSync(inTheWay)
  const logged: string[] = []
  const first = await open(t, { file, mode: 'async', retention: { maxAgeSeconds: 2 * DAY_SECONDS } }, logged)
  await until(() => logged.some(line => line.includes('could not be deleted')), 'the failure to be told')
  await first.close()
  rmSync(inTheWay, { recursive: true })
  const second = await open(t, { file, mode: 'async', retention: { maxAgeSeconds: 2 * DAY_SECONDS } })
  await until(() => rotated(file).length === 0, 'the second attempt')
  await second.close()
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true })
})

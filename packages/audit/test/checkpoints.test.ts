import t from 'tap'
import { mock } from 'node:test'
import { generateKeyPairSync } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { audit, verifyAuditLog, type AuditCheckpoints, type AuditOptions, type SignedCheckpoint } from '@marty/audit'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { until } from '@marty/testing'
import { event, logFile, PRODUCT } from './service.js'

const { privateKey, publicKey } = generateKeyPairSync('ed25519')

async function open (t: Test, sink: AuditOptions['sink'], checkpoints: Partial<AuditCheckpoints> = {}, logger: { stream: { write (line: string): void } } | false = false): Promise<FastifyInstance> {
  const app = Fastify({ logger })
  t.teardown(() => app.close())
  await app.register(audit, { sink, product: PRODUCT, checkpoints: { key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string, ...checkpoints } })
  return app
}

const checkpointsIn = (file: string): SignedCheckpoint[] => existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1).map(line => JSON.parse(line) as SignedCheckpoint) : []
const seqs = (file: string): number[] => checkpointsIn(`${file}.heads`).map(({ seq }) => seq)

t.test('a log that ends before its checkpoints, or otherwise, is not written on', async t => {
  const file = logFile(t)
  const app = await open(t, { file, mode: 'sync' })
  for (let i = 0; i < 3; i++) await app.audit.record(event())
  await app.close()
  t.equal(statSync(`${file}.heads`).mode & 0o777, 0o600)
  const text = readFileSync(file, 'utf8')
  const lines = text.split('\n').slice(0, -1)
  for (const [changed, message] of [[lines.slice(0, -1).map(line => `${line}\n`).join(''), /ends with record 3.*covers record 4: records were removed/], ['', /ends with record 0/]] as const) {
    writeFileSync(file, changed)
    await t.rejects(open(t, { file, mode: 'sync' }), { code: 'MARTY_AUDIT_FILE_INVALID', message })
    t.equal(readFileSync(file, 'utf8'), changed, 'it is left alone')
  }
  rmSync(file)
  const anew = logFile(t)
  const another = Fastify()
  await another.register(audit, { sink: { file: anew, mode: 'sync' }, product: PRODUCT })
  for (let i = 0; i < 3; i++) await another.audit.record(event())
  await another.close()
  writeFileSync(file, readFileSync(anew))
  await t.rejects(open(t, { file, mode: 'sync' }), { code: 'MARTY_AUDIT_FILE_INVALID', message: /Record 4 .* is not the record that its last signed checkpoint covers/ })
  writeFileSync(file, text)
  appendFileSync(`${file}.heads`, 'dear diary\n')
  await t.rejects(open(t, { file, mode: 'sync' }), { code: 'MARTY_AUDIT_FILE_INVALID', message: /not a signed checkpoint/ })
  writeFileSync(`${file}.heads`, '\n')
  await t.rejects(open(t, { file, mode: 'sync' }), { code: 'MARTY_AUDIT_FILE_INVALID', message: /not a signed checkpoint/ })
})

t.test('a checkpoint that was being written when the process died is cut off', async t => {
  const file = logFile(t)
  for (const torn of ['{"seq":9,', '']) {
    const app = await open(t, { file, mode: 'sync' })
    await app.audit.record(event())
    await app.close()
    appendFileSync(`${file}.heads`, torn)
  }
  const app = await open(t, { file, mode: 'sync' })
  await app.close()
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true, signedSeq: 5 })
  t.strictSame(seqs(file), [1, 2, 3, 4, 5])
  writeFileSync(`${file}.heads`, '{"seq":9,')
  await (await open(t, { file, mode: 'sync' })).close()
  t.strictSame(seqs(file), [6, 7], 'what is found without a checkpoint is named, and not signed before')
  t.match(await verifyAuditLog(file, { publicKey }), { ok: false, kind: 'unproven', seq: 1, unproven: [{ firstSeq: 1, lastSeq: 5 }] })
})

for (const mode of ['sync', 'async'] as const) {
  t.test(`${mode}: a checkpoint after so many events, or so much time, and none without need`, async t => {
    const file = logFile(t)
    const app = await open(t, { file, mode }, { everyEvents: 100, everySeconds: 3600 })
    await app.audit.record(event())
    await until(() => seqs(file).length === 1, 'the first checkpoint')
    for (let i = 0; i < 450; i++) await app.audit.record(event())
    await app.close()
    const signed = seqs(file)
    t.ok(signed.length <= 7, signed.join())
    t.equal(signed.at(-1), 452)
    if (mode === 'sync') t.strictSame(signed, [1, 101, 201, 301, 401, 452])
    t.match(await verifyAuditLog(file, { publicKey }), { ok: true, signedSeq: 452 })

    const second = await open(t, { file, mode }, { everySeconds: 2 })
    await second.audit.record(event())
    await until(() => seqs(file).includes(453), 'the checkpoint of the new run')
    await second.audit.record(event())
    await until(() => seqs(file).includes(454), 'a checkpoint when its time has come, without another event')
    const before = seqs(file).length
    await second.close()
    t.equal(seqs(file).length, before + 1)
  })
}

t.test('a checkpoint is signed when its time has come', async t => {
  mock.timers.enable({ apis: ['Date'], now: Date.now() })
  t.teardown(() => { mock.timers.reset() })
  const file = logFile(t)
  const app = await open(t, { file, mode: 'sync' })
  for (const [milliseconds, signed] of [[0, [1]], [59_999, [1]], [1, [1, 3]], [60_000, [1, 3, 4]]] as const) {
    mock.timers.tick(milliseconds)
    await app.audit.record(event())
    await until(() => seqs(file).length >= signed.length, 'the checkpoint')
    t.strictSame(seqs(file), signed)
  }
})

t.test('a checkpoint is never ahead of what is in the sink', async t => {
  let text = ''
  const early: number[] = []
  const app = await open(t, { write (lines) { text += lines } }, { everyEvents: 1, onCheckpoint ({ hash, seq }) { if (!text.includes(`"hash":"${hash}"`)) early.push(seq) } })
  await Promise.all(Array.from({ length: 3_000 }, async () => { await app.audit.record(event()) }))
  await app.close()
  t.strictSame(early, [])
})

t.test('checkpoints that cannot be written or handed on harm no event, are told, and come later', async t => {
  const file = logFile(t)
  const logged: string[] = []
  let calls = 0
  const app = await open(t, { file, mode: 'sync' }, { everyEvents: 1, onCheckpoint () { if (++calls === 1) throw new Error('the vault is away') } }, { stream: { write (line) { logged.push(line) } } })
  await app.audit.record(event())
  await until(() => logged.some(line => line.includes('the vault is away')), 'the failure to be told')
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true, signedSeq: 1 }, 'it is in the file nevertheless')
  rmSync(`${file}.heads`)
  mkdirSync(`${file}.heads`)
  await app.audit.record(event())
  await app.audit.record(event())
  t.equal(app.audit.health().status, 'healthy')
  rmSync(`${file}.heads`, { recursive: true })
  await app.audit.record(event())
  await until(() => seqs(file).includes(4), 'a checkpoint again')
  await app.close()
  t.match(await verifyAuditLog(file, { publicKey }), { ok: true, signedSeq: 5 })
})

t.test('a sink that cannot be made durable gets no checkpoint', async t => {
  let broken = true
  const checkpoints: SignedCheckpoint[] = []
  const app = await open(t, { write () {}, async sync () { if (broken) throw new Error('EIO') } }, { onCheckpoint (checkpoint) { checkpoints.push(checkpoint) } })
  await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE' })
  t.strictSame(checkpoints, [])
  broken = false
  await app.audit.record(event())
  await until(() => checkpoints.length === 1, 'a checkpoint')
})

t.test('a sink that stops being durable after an event was acknowledged gets no checkpoint', async t => {
  let syncs = 0
  const checkpoints: SignedCheckpoint[] = []
  const logged: string[] = []
  const app = await open(t, { write () {}, async sync () { if (++syncs === 2) throw new Error('EIO') } }, { onCheckpoint (checkpoint) { checkpoints.push(checkpoint) } }, { stream: { write (line) { logged.push(line) } } })
  await app.audit.record(event())
  await until(() => logged.length > 0, 'the failure to be told')
  t.strictSame(checkpoints, [])
  await app.audit.record(event())
  await until(() => checkpoints.length === 1, 'a checkpoint')
  t.equal(checkpoints[0]!.seq, 2)
})

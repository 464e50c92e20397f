import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import Fastify, { type FastifyContextConfig } from 'fastify'
import {
  audit, AuditUnavailable, verifyAuditLog, type Audit, type AuditOptions, type AuditSink, type AuditVerification,
  type SignedCheckpoint
} from '@marty/audit'

// The compiler checks this file; running it shows only that the right uses work.

const product = { name: 'test', version: '1.0.0' }
const { privateKey } = generateKeyPairSync('ed25519')

t.test('the options have types, and so have those of register', async t => {
  const seen: SignedCheckpoint[] = []
  const options: AuditOptions[] = [
    { sink: 'stdout', product, redact: ['pin'] },
    { sink: { file: 'audit.log', mode: 'async', rotate: { maxBytes: 1e6 }, retention: { maxAgeSeconds: 60 } }, product },
    {
      sink: { file: 'audit.log', mode: 'sync', rotate: false },
      checkpoints: { key: privateKey, everySeconds: 1, onCheckpoint: one => { seen.push(one) } },
      product
    }
  ]
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(audit, { sink: 'none', product, logLevel: 'warn' })
  const log: Audit = app.audit
  t.equal(log.health().details.lostEvents, 0)

  // @ts-expect-error the sink is required: an audit log without one records nothing
  const noSink: AuditOptions = { product }
  // @ts-expect-error a file is written in one of two modes
  const mode: AuditOptions = { sink: { file: 'audit.log', mode: 'fast' }, product }
  // @ts-expect-error the unit is part of the name
  const unit: AuditOptions = { sink: 'stdout', product, checkpoints: { key: privateKey, every: 60 } }
  // @ts-expect-error checkpoints need a key
  const keyless: AuditOptions = { sink: 'stdout', product, checkpoints: {} }
  t.equal([...options, noSink, mode, unit, keyless].length, 7)
})

t.test('a sink of your own writes lines', async t => {
  const sink: AuditSink = { write: lines => { t.match(lines, /\n$/) } }
  // @ts-expect-error lines are one string
  const list: AuditSink = { write: (lines: string[]) => { lines.pop() } }
  // @ts-expect-error a sink can write
  const nothing: AuditSink = { sync: async () => {} }
  t.equal([sink, list, nothing].length, 3)
})

t.test('a rule records one of four amounts', async t => {
  const config: FastifyContextConfig = { security: { public: true, audit: 'required' } }
  // @ts-expect-error there is no such amount
  const all: FastifyContextConfig = { security: { public: true, audit: true } }
  t.equal([config, all].length, 2)
})

t.test('the result of a verification must be examined', async t => {
  const verify = async (): Promise<string> => {
    const result: AuditVerification = await verifyAuditLog('audit.log')
    // @ts-expect-error only a result that is not ok has a message
    const early: string = result.message
    return result.ok ? `${result.records} records` : `${early} ${result.kind}: ${result.message}`
  }
  await t.rejects(verify(), { code: 'ENOENT' })
})

t.test('errors have literal codes', async t => {
  const { code }: { code: 'MARTY_AUDIT_UNAVAILABLE' } = new AuditUnavailable('no')
  t.equal(code, 'MARTY_AUDIT_UNAVAILABLE')
})

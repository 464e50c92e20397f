import { audit } from '@marty/audit'
import Fastify from 'fastify'
import t from 'tap'
import { event } from './service.js'

t.test('the state of the log is among the metrics of the application', async t => {
  let isBroken = false
  const app = Fastify()
  t.teardown(() => app.close())
  const sink = { write: async () => { if (isBroken) throw new Error('the disk is full') } }
  await app.register(audit, { sink, product: { name: 'test', version: '1.0.0' } })
  await app.ready()
  const readings = (): Record<string, number> =>
    Object.fromEntries(app.guard.metrics().map(({ name, values }) => [name, values[0]!.value]))
  t.match(readings(), { audit_healthy: 1, audit_queued_events: 0, audit_lost_events_total: 0 })
  isBroken = true
  await t.rejects(app.audit.record(event()), { code: 'MARTY_AUDIT_UNAVAILABLE' })
  t.match(readings(), { audit_healthy: 0, audit_queued_events: 0, audit_lost_events_total: 1 })
})

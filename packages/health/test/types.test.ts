import t from 'tap'
import Fastify from 'fastify'
import {
  ComponentUnknown, health, HealthOptionInvalid, type Health, type HealthOptions, type HealthReport, type Probe
} from '@marty/health'

// The compiler checks this file; running it shows only that the right uses work.

const redis: Probe = async signal => ({ status: signal.aborted ? 'unhealthy' : 'healthy', details: 'answers' })

t.test('the options have types, and so have those of register', async t => {
  const options: HealthOptions = {
    components: { redis },
    timeoutMs: 100,
    ready: ['redis'],
    groups: { system: ['redis'] },
    path: '/status',
    security: { public: true }
  }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(health, { ...options, prefix: '/v1', logLevel: 'warn' })

  // @ts-expect-error the components are required
  const missing: HealthOptions = {}
  // @ts-expect-error the unit is part of the name
  const unit: HealthOptions = { components: {}, timeout: 100 }
  // @ts-expect-error a probe returns a promise
  const sync: Probe = () => ({ status: 'healthy', details: '' })
  // @ts-expect-error there is no such status
  const status: Probe = async () => ({ status: 'fine', details: '' })
  // @ts-expect-error the details are required
  const details: Probe = async () => ({ status: 'healthy' })
  // @ts-expect-error options are read-only
  options.components.redis = redis
  t.equal([missing, unit, sync, status, details].length, 5)
})

t.test('`fastify.health` and its report have types', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(health, { components: { redis } })
  const checked: Health = app.health
  const report: HealthReport = await checked.report(['redis'])

  const worst: 'healthy' | 'degraded' | 'unhealthy' = report.status
  t.equal(worst, 'healthy')
  // @ts-expect-error `draining` is read-only: `drain()` sets it
  t.throws(() => { checked.draining = true }, TypeError)
  // @ts-expect-error the components are named in a list
  await t.rejects(checked.report('redis'))
})

t.test('errors have literal codes', async t => {
  const { code }: { code: 'MARTY_HEALTH_OPT_INVALID' } = new HealthOptionInvalid('no')
  const unknown: { code: 'MARTY_HEALTH_COMPONENT_UNKNOWN' } = new ComponentUnknown('no')
  t.same([code, unknown.code], ['MARTY_HEALTH_OPT_INVALID', 'MARTY_HEALTH_COMPONENT_UNKNOWN'])
})

import t from 'tap'
import { createService } from './service.js'

t.test('the report says who may call each operation, its roles, limits and audit, and where it was declared', async t => {
  const { app } = await createService(t, options => ({
    ...options,
    limits: {
      rules: { all: { limit: 9, windowMs: 1000, by: 'address' }, few: { limit: 2, windowMs: 1000, by: 'principal' } },
      apply: { http: ['all'] }
    },
    environment: 'production'
  }))
  const handler = async (): Promise<string> => 'ok'
  app.get('/read', { config: { security: { permission: 'report:read', limits: ['few'], audit: 'all' } } }, handler)
  app.put('/write', { config: { security: { permission: 'report:write', when: () => ({}) } } }, handler)
  app.get('/roles', { config: { security: { roles: ['writer', 'reader'], authenticate: ['session', 'jwt'] } } }, handler)
  app.get('/free', { config: { security: { public: true, limits: false, audit: 'none' }, headers: { csp: {} } } }, handler)
  await app.ready()
  const report = new Map(app.security.report().map(({ name, rule, ...line }) => [name, line]))
  t.match(report.get('GET /read'), {
    transport: 'http',
    who: 'permission report:read',
    grantedTo: { always: ['reader', 'writer'], conditionally: [] },
    limits: ['all', 'few'],
    audit: 'all',
    headers: 'standard',
    place: /report\.test\.[jt]s:\d+:\d+$/
  })
  t.match(report.get('PUT /write'), {
    who: 'permission report:write, for this resource',
    grantedTo: { always: [], conditionally: [] }
  }, 'nobody writes in production')
  t.match(report.get('GET /roles'), { who: 'signed in by session or jwt, role writer or reader', limits: ['all'], audit: 'denied' })
  t.match(report.get('GET /free'), { who: 'anyone', limits: [], audit: 'none', headers: 'own' })
  t.match(report.get('404'), { who: 'anyone', limits: ['all'], place: null })
  t.equal(report.size, app.security.routes().length)
})

t.test('without policy, limits and audit, the report says so by leaving them out', async t => {
  const { app } = await createService(t, options => ({ ...options, rbac: false, limits: false, audit: false }))
  app.get('/me', { config: { security: { authenticate: true } } }, async () => 'me')
  await app.ready()
  const line = app.security.report().find(({ name }) => name === 'GET /me')!
  t.match(line, { who: 'anyone who is signed in', headers: 'standard' })
  t.strictSame(['limits', 'audit', 'grantedTo'].filter(key => key in line), [])
})

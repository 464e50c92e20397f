import t from 'tap'
import { createService } from './service.js'

t.test('a limit by tenant counts the callers whose tokens were issued for it together', async t => {
  const { app } = await createService(t, options => ({
    ...options,
    limits: { rules: { plan: { limit: 2, windowMs: 60_000, by: 'tenant' } } }
  }))
  app.get('/report', { config: { security: { permission: 'report:read', limits: ['plan'] } } }, async () => 'report')
  await app.ready()
  const statusOf = async (subject: string, tenant?: string): Promise<number> => {
    const { token } = app.auth.tokens.issue({ subject, role: 'reader', ...(tenant === undefined ? {} : { tenant }) })
    return (await app.inject({ url: '/report', headers: { authorization: `Bearer ${token}` } })).statusCode
  }

  t.equal(await statusOf('alice', 'acme'), 200)
  t.equal(await statusOf('bob', 'acme'), 200)
  t.equal(await statusOf('carol', 'acme'), 429)
  t.equal(await statusOf('dave', 'other'), 200)
  t.equal(await statusOf('carol'), 200)
})

import t from 'tap'
import { createService } from './service.js'

t.test('one option gives the metrics of every part; their route needs its own rule', async t => {
  const { app, bearer } = await createService(t, options => ({
    ...options,
    metrics: { security: { permission: 'report:write' }, process: false }
  }))
  const rule = { permission: 'report:read', limits: ['few'] } as const
  app.get('/reports/:id', { config: { security: rule } }, async () => 'report')
  const read = async (headers: Record<string, string>): Promise<number> =>
    (await app.inject({ url: '/reports/7?secret=1', headers })).statusCode

  const bob = bearer('bob', 'reader')
  t.strictSame([await read(bob), await read(bob), await read(bob)], [200, 200, 429])
  t.equal(await read({}), 401)
  t.equal(await read({ authorization: 'Bearer x.y.z' }), 401)
  t.equal((await app.inject('/metrics')).statusCode, 401)
  t.equal((await app.inject({ url: '/metrics', headers: bob })).statusCode, 403)

  const { body, headers } = await app.inject({ url: '/metrics', headers: bearer('ana', 'writer') })
  t.match(headers['content-type'], /^text\/plain; version=0\.0\.4/)
  for (const line of [
    'http_requests_total{method="GET",route="/reports/:id",status="200",principal="user"} 2',
    'http_requests_total{method="GET",route="/reports/:id",status="401",principal="anonymous"} 2',
    'http_requests_in_progress 1',
    'auth_attempts_total{method="unknown",status="failed",reason="MARTY_CORE_CREDENTIAL_INVALID"} 1',
    'rate_limit_decisions_total{rule="few",outcome="allowed"} 3',
    'rate_limit_hits_total{rule="few"} 1',
    'policy_generation 1',
    'policy_stale 0',
    'audit_healthy 1',
    'audit_lost_events_total 0'
  ]) {
    t.ok(body.split('\n').includes(line), line)
  }
  t.notMatch(body, /secret|bob|ana|x\.y\.z/)
})

t.test('without the option there are no metrics', async t => {
  const { app } = await createService(t)
  t.notOk(app.hasDecorator('metrics'))
})

import { readFileSync } from 'node:fs'
import t from 'tap'
import { until } from '@marty/testing'
import { createService } from './service.js'

t.test('why a credential was refused stands in the log and in the audit log, and not in the answer', async t => {
  const { app, logs, auditFile, bearer } = await createService(t)
  app.get('/reports', { config: { security: { permission: 'report:read' } } }, async () => [])
  const { authorization } = bearer('alice', 'reader')
  const wrong = { authorization: `${authorization.slice(0, -4)}AAAA` }
  t.equal((await app.inject({ url: '/reports', headers: { authorization } })).statusCode, 200)
  const { statusCode, body } = await app.inject({ url: '/reports', headers: wrong })
  t.equal(statusCode, 401)
  t.notMatch(body, 'signature')
  const recordOf = () =>
    readFileSync(auditFile, 'utf8')
      .split('\n')
      .find(line => line.includes('MARTY_CORE_CREDENTIAL_INVALID'))
  await until(() => recordOf() !== undefined, 'the record')
  t.match(JSON.parse(recordOf()!), {
    class_name: 'Authentication',
    status: 'failure',
    status_code: 'MARTY_CORE_CREDENTIAL_INVALID',
    unmapped: { reason: 'signature' }
  })
  t.match(JSON.parse(logs.find(line => line.includes('request refused'))!), {
    code: 'MARTY_CORE_CREDENTIAL_INVALID',
    reason: 'signature'
  })
})

import t from 'tap'
import { readFileSync } from 'node:fs'
import { Type } from 'typebox'
import { jsonRpc } from '@marty/json-rpc'
import { explainMethod } from '@marty/rbac'
import { createService } from './service.js'

const POLICY = `
version: 1
resources:
  report: { actions: [read], attributes: { owner: text } }
  policy: { actions: [explain] }
roles:
  reader: { allow: [{ permission: 'report:read', when: resource.owner == principal.id }] }
  writer: { allow: ['*:*'] }
environments: { development: {} }
`

t.test('conditions and explanations hold over HTTP and JSON-RPC alike', async t => {
  const { app, bearer, auditFile } = await createService(t, options => ({
    ...options,
    rbac: { policy: POLICY, explainUrl: '/policy/explain' }
  }))
  await app.register(jsonRpc, { httpPath: '/rpc' })
  app.get(
    '/reports/:owner',
    {
      config: {
        security: { permission: 'report:read', audit: 'required', when: request => request.params as { owner: string } }
      }
    },
    async request => request.can('report:read')
  )
  app.rpc.method({
    name: 'read_report',
    security: { permission: 'report:read', when: async ({ owner }) => ({ owner }) },
    params: Type.Object({ owner: Type.String() }),
    handler: ({ owner }, { can }) => can('report:read', { owner })
  })
  app.rpc.method(explainMethod(app.rbac))

  const get = async (url: string) => await app.inject({ url, headers: bearer('ada', 'reader') })
  t.equal((await get('/reports/bob')).statusCode, 403)
  t.notMatch(readFileSync(auditFile, 'utf8'), /attempt/, 'nothing is attempted that is not allowed')
  t.equal((await get('/reports/ada')).body, 'false')
  t.match(readFileSync(auditFile, 'utf8'), /attempt/)
  const call = async (role: string, method: string, params: object) =>
    (
      await app.inject({
        method: 'POST',
        url: '/rpc',
        headers: bearer('ada', role),
        payload: { jsonrpc: '2.0', id: 1, method, params }
      })
    ).json()
  t.match(await call('reader', 'read_report', { owner: 'bob' }), {
    error: { code: -32002, data: { code: 'MARTY_RBAC_DENIED' } }
  })
  t.match(await call('reader', 'read_report', { owner: 'ada' }), { result: true })

  const question = {
    principal: { roles: ['reader'], id: 'ada' },
    permission: 'report:read',
    resource: { owner: 'bob' }
  }
  t.match(await call('reader', 'policy.explain', question), { error: { code: -32002 } })
  t.match(await call('writer', 'policy.explain', { ...question, permission: 'report:raed' }), {
    error: { code: -32602, message: /did you mean "report:read"/ }
  })
  t.match(await call('writer', 'policy.explain', { ...question, extra: 1 }), { error: { code: -32602 } })
  t.match(await call('writer', 'policy.explain', question), {
    result: { allowed: false, generation: 1, sha256: app.rbac.policy.sha256 }
  })
  const answer = await app.inject({
    method: 'POST',
    url: '/policy/explain',
    headers: bearer('ada', 'writer'),
    payload: question
  })
  t.match(answer.json(), { allowed: false, others: [{ condition: { values: { 'resource.owner': 'bob' } } }] })
})

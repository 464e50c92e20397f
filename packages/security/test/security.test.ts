import t from 'tap'
import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import { useGuard } from '@marty/core'
import { jsonRpc } from '@marty/json-rpc'
import { security, type SecurityOptions } from '@marty/security'
import { createService, optionsFor } from './service.js'

t.test('parts that nobody decided about, and options nobody knows, stop the start', async t => {
  const start = async (options: object): Promise<void> => {
    const app = Fastify()
    try {
      await app.register(security, options as SecurityOptions)
    } finally {
      await app.close().catch(() => {})
    }
  }
  const all = { ...optionsFor('/nowhere'), audit: false }
  for (const part of ['auth', 'rbac', 'limits', 'headers', 'audit']) {
    await t.rejects(
      start({ ...all, [part]: undefined }),
      { code: 'MARTY_SECURITY_OPT_INVALID', message: `"${part}" is required; it must be false or an object` },
      part
    )
    await t.rejects(start({ ...all, [part]: true }), { code: 'MARTY_SECURITY_OPT_INVALID' }, `${part}: true`)
  }
  await t.rejects(start({ ...all, environment: undefined }), {
    code: 'MARTY_SECURITY_OPT_INVALID',
    message: /"environment" is required/
  })
  await t.rejects(start({ ...all, limit: {} }), {
    code: 'MARTY_SECURITY_OPT_INVALID',
    message: /did you mean "limits"\?/
  })
  await t.rejects(
    start({ ...all, headers: { corse: {} } }),
    { code: 'MARTY_HEADERS_OPT_INVALID' },
    'each part judges its own'
  )
})

t.test('a guard that is not strict is not taken over', async t => {
  const app = Fastify()
  useGuard(app)
  await t.rejects(
    async () => {
      await app.register(security, { ...optionsFor('/nowhere'), audit: false })
    },
    { code: 'MARTY_SECURITY_GUARD_NOT_STRICT' }
  )
  await app.close().catch(() => {})
})

t.test('a route that does not say who may call it stops the start', async t => {
  const { app } = await createService(t)
  app.get('/forgotten', async () => 'secret')
  await t.rejects(async () => await app.ready(), { code: 'MARTY_CORE_RULE_MISSING', message: /route GET \/forgotten/ })
})

t.test('one rule: 401, 403, 429, 200, the same for a route as for everybody', async t => {
  const { app, bearer, auditFile } = await createService(t)
  app.get('/status', { config: { security: { public: true } } }, async () => 'up')
  app.get(
    '/reports',
    { config: { security: { permission: 'report:read', limits: ['few'], audit: 'all' } } },
    async request => request.principal.id
  )
  app.post('/reports', { config: { security: { permission: 'report:write' } } }, async () => 'written')

  const none = await app.inject('/reports')
  t.equal(none.statusCode, 401)
  t.match(none.json(), { code: 'MARTY_CORE_UNAUTHENTICATED', status: 401, request_id: String })
  t.equal((await app.inject({ url: '/reports', headers: { authorization: 'Bearer x.y.z' } })).statusCode, 401)
  const denied = await app.inject({ method: 'POST', url: '/reports', headers: bearer('alice', 'reader') })
  t.equal(denied.statusCode, 403)
  t.match(denied.json(), { code: 'MARTY_RBAC_DENIED' })

  const headers = bearer('bob', 'reader')
  for (let call = 0; call < 2; call++) t.equal((await app.inject({ url: '/reports', headers })).body, 'bob')
  const limited = await app.inject({ url: '/reports', headers })
  t.equal(limited.statusCode, 429)
  t.match(limited.headers['retry-after'], /^\d+$/)
  t.match(limited.json(), { code: 'MARTY_RATE_LIMIT_EXCEEDED' })
  t.equal(
    (await app.inject({ url: '/reports', headers: bearer('carol', 'reader') })).statusCode,
    200,
    'others have their own budget'
  )

  const unknown = await app.inject('/nothing')
  t.equal(unknown.statusCode, 404)
  for (const answer of [none, denied, limited, unknown, await app.inject('/status')]) {
    t.match(
      answer.headers,
      { 'content-security-policy': /default-src 'none'/, 'x-content-type-options': 'nosniff' },
      `headers on ${answer.statusCode}`
    )
    if (answer.statusCode !== 200) t.match(answer.headers['content-type'], /application\/problem\+json/)
  }
  await app.close()
  const written = readFileSync(auditFile, 'utf8')
  for (const trace of [
    'MARTY_CORE_UNAUTHENTICATED',
    'MARTY_CORE_CREDENTIAL_INVALID',
    'MARTY_RBAC_DENIED',
    'MARTY_RATE_LIMIT_EXCEEDED',
    'bob'
  ]) {
    t.match(written, trace)
  }
  t.notMatch(written, headers.authorization.slice(7))
})

t.test('the environment reaches the policy', async t => {
  for (const [environment, status] of [['development', 200], ['production', 403]] as const) {
    const { app, bearer } = await createService(t, options => ({ ...options, environment }))
    app.post('/reports', { config: { security: { permission: 'report:write' } } }, async () => 'written')
    t.equal(
      (await app.inject({ method: 'POST', url: '/reports', headers: bearer('alice', 'writer') })).statusCode,
      status,
      environment
    )
    t.equal(app.security.environment, environment)
  }
})

t.test('an attempt is written down only after it was allowed', async t => {
  const { app, bearer, auditFile } = await createService(t)
  app.post(
    '/reports',
    { config: { security: { permission: 'report:write', audit: 'required' } } },
    async () => 'written'
  )
  t.equal((await app.inject({ method: 'POST', url: '/reports', headers: bearer('mallory', 'reader') })).statusCode, 403)
  t.equal((await app.inject({ method: 'POST', url: '/reports', headers: bearer('alice', 'writer') })).statusCode, 200)
  await app.close()
  const attempts = readFileSync(auditFile, 'utf8').split('\n').filter(line => line.includes('attempt'))
  t.equal(attempts.length, 1)
  t.match(attempts[0], 'alice')
})

t.test('guessing through JSON-RPC uses up the same budget, and a right token is let in all the same', async t => {
  const { app, bearer } = await createService(t)
  await app.register(jsonRpc, { httpPath: '/rpc' })
  app.rpc.method({
    name: 'view',
    security: { permission: 'report:read' },
    handler: (_params, { principal }) => principal.id
  })
  const right = bearer('alice', 'reader').authorization.slice(7)
  const call = async (method: string, params?: object, headers: Record<string, string> = {}): Promise<object> => {
    const answer = await app.inject({
      method: 'POST',
      url: '/rpc',
      headers,
      payload: { jsonrpc: '2.0', id: 1, method, params }
    })
    return answer.json()
  }

  t.match(await call('authenticate', { auth_token: right }), { result: { authenticated: true, role: 'reader' } })
  t.match(await call('view', undefined, bearer('alice', 'reader')), { result: 'alice' })
  for (let guess = 0; guess < 3; guess++) {
    t.match(await call('authenticate', { auth_token: `guess${guess}` }), { error: { code: -32001 } })
  }
  t.match(await call('authenticate', { auth_token: 'guess3' }), {
    error: { code: -32040, data: { code: 'MARTY_RATE_LIMIT_EXCEEDED', retry_after_ms: Number } }
  })
  t.match(await call('authenticate', { auth_token: right }), { result: { authenticated: true } })
  t.match(await call('authenticate', { auth_token: 'guess4' }), { error: { code: -32040 } }, 'a wrong one is not')
})

t.test('the start tells in one line what anybody may call', async t => {
  const { app, logs } = await createService(t, options => ({ ...options, audit: false }))
  app.get('/status', { config: { security: { public: true } } }, async () => 'up')
  app.get('/me', { config: { security: { authenticate: true } } }, async () => 'me')
  await app.ready()
  const line = logs
    .map(text => JSON.parse(text) as Record<string, unknown>)
    .find(({ operations }) => operations !== undefined)
  t.match(line, {
    level: 40,
    public: ['404', 'GET /status'],
    without: ['audit'],
    msg: '3 operations, 2 public: 404, GET /status; WITHOUT audit'
  })
  t.match(app.security.routes(), [
    { name: '404', rule: { public: true } },
    { name: 'GET /status', transport: 'http', rule: { public: true } },
    { name: 'GET /me', transport: 'http', rule: { authenticate: true } }
  ])
})

t.test('nothing is warned of when nothing is left out', async t => {
  const { app, logs } = await createService(t)
  await app.ready()
  t.match(
    logs.map(text => JSON.parse(text) as Record<string, unknown>).find(({ operations }) => operations !== undefined),
    { level: 30 }
  )
})

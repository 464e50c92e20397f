import fastifyMultipart from '@fastify/multipart'
import fastifyStatic from '@fastify/static'
import fastifySwagger from '@fastify/swagger'
import fastifySwaggerUi from '@fastify/swagger-ui'
import underPressure from '@fastify/under-pressure'
import fastifyWebsocket from '@fastify/websocket'
import type { RouteRule, SecurityOptions } from '@marty/security'
import { declareRules, useGuard } from '@marty/core'
import Fastify, { type LightMyRequestResponse } from 'fastify'
import t, { type Test } from 'tap'
import { createService, type Service } from './service.js'

const withRules = async (t: Test, ...rules: RouteRule[]): Promise<Service> =>
  await createService(t, options => ({ ...options, rules }))
const stopOf = async (service: Service): Promise<{ code?: string, message?: string }> => {
  try {
    await service.app.ready()
    return {}
  } catch (error) {
    return error as { code: string, message: string }
  }
}

t.test('Swagger UI is served to holders of a permission, with headers under which it works', async t => {
  const { app, bearer } = await withRules(t, {
    url: '/docs/*',
    permission: 'report:write',
    headers: { csp: { 'default-src': ["'self'"], 'img-src': ["'self'", 'data:'], 'style-src': ["'self'", "'unsafe-inline'"] } }
  })
  await app.register(fastifySwagger)
  await app.register(fastifySwaggerUi, { routePrefix: '/docs' })
  app.get('/reports', { config: { security: { permission: 'report:read' } } }, async () => [])
  const get = async (url: string, role?: string): Promise<LightMyRequestResponse> =>
    await app.inject({ url, headers: role === undefined ? {} : bearer('ada', role) })
  for (const url of ['/docs', '/docs/', '/docs/json', '/docs/yaml', '/docs/static/swagger-ui.css', '/docs/static/index.html']) {
    t.equal((await get(url)).statusCode, 401, url)
    t.equal((await get(url, 'reader')).statusCode, 403, url)
    const { statusCode, headers } = await get(url, 'writer')
    t.ok(statusCode === 200 || statusCode === 302, `${url}: ${statusCode}`)
    t.match(headers['content-security-policy'], "default-src 'self'")
  }
  t.match((await get('/docs/json', 'writer')).json().paths, { '/reports': { get: {} } })
  t.match((await get('/reports', 'reader')).headers['content-security-policy'], "default-src 'none'", 'others keep theirs')
})

t.test('files, multipart, under-pressure and WebSocket routes', async t => {
  const { app, bearer } = await withRules(
    t,
    { url: '/files/*', authenticate: true },
    { url: '/status', methods: ['GET', 'HEAD'], public: true }
  )
  await app.register(fastifyStatic, { root: import.meta.dirname, prefix: '/files/' })
  await app.register(underPressure, { exposeStatusRoute: '/status' })
  await app.register(fastifyMultipart)
  await app.register(fastifyWebsocket)
  app.post('/upload', { config: { security: { authenticate: true } } }, async request => {
    const file = await request.file()
    return { name: file?.filename, bytes: (await file?.toBuffer())?.length }
  })
  app.get('/live', { websocket: true, config: { security: { authenticate: true } } }, socket => { socket.close() })
  const headers = bearer('ada', 'reader')
  t.equal((await app.inject('/files/third-party.test.js')).statusCode, 401)
  t.equal((await app.inject({ url: '/files/third-party.test.js', headers })).statusCode, 200)
  t.equal((await app.inject({ method: 'HEAD', url: '/files/third-party.test.js' })).statusCode, 401)
  t.equal((await app.inject({ method: 'HEAD', url: '/files/third-party.test.js', headers })).statusCode, 200)
  t.equal((await app.inject('/files/../package.json')).statusCode, 404)
  t.equal((await app.inject('/status')).statusCode, 200)

  const upload = async (extra: Record<string, string>): Promise<LightMyRequestResponse> => await app.inject({
    method: 'POST',
    url: '/upload',
    headers: { 'content-type': 'multipart/form-data; boundary=b', ...extra },
    payload: '--b\r\ncontent-disposition: form-data; name="f"; filename="a.txt"\r\n\r\nhello\r\n--b--\r\n'
  })
  t.equal((await upload({})).statusCode, 401)
  t.same((await upload(headers)).json(), { name: 'a.txt', bytes: 5 })
  t.equal((await app.inject('/live')).statusCode, 401)
})

t.test('a rule never reaches further than its path, nor a method that it does not name, nor a route with its own rule', async t => {
  const { app, bearer } = await withRules(
    t,
    { url: '/docs/*', methods: ['get', 'HEAD'], public: true },
    { url: '/docs/inner/*', authenticate: true },
    { url: '/docs/inner/open', public: true }
  )
  app.get('/docs/inner/one', async () => 'inner')
  app.get('/docs/inner/open', async () => 'open')
  app.get('/docs/own', { config: { security: { permission: 'report:write' } } }, async () => 'own')
  app.get('/docs/one', async () => 'one')
  app.get('/docs', async () => 'all')
  t.equal((await app.inject('/docs/one')).statusCode, 200)
  t.equal((await app.inject('/docs')).statusCode, 200)
  t.equal((await app.inject('/docs/inner/one')).statusCode, 401, 'the longest path applies')
  t.equal((await app.inject('/docs/inner/open')).statusCode, 200, 'and a whole URL before a path')
  t.equal((await app.inject({ url: '/docs/own', headers: bearer('ada', 'reader') })).statusCode, 403)
  for (const [method, url] of [['GET', '/docsecret'], ['POST', '/docs/one'], ['GET', '/'], ['GET', '/other/docs/one']] as const) {
    const service = await withRules(t, { url: '/docs/*', methods: ['GET', 'HEAD'], public: true })
    service.app.get('/docs/one', async () => 'one')
    service.app.route({ method, url, handler: async () => 'x' })
    t.match(await stopOf(service), { code: 'MARTY_CORE_RULE_MISSING', message: `${method} ${url}` })
  }
})

t.test('a rule for some methods of a route never makes room for a wider one', async t => {
  for (const methods of [['GET', 'DELETE'], ['POST', 'PUT', 'DELETE']]) {
    const service = await withRules(
      t,
      { url: '/a/*', methods: ['POST', 'DELETE'], authenticate: true },
      { url: '/a/open', public: true },
      { url: '/a/*', public: true }
    )
    service.app.post('/a/used', async () => 'used')
    service.app.get('/a/open', async () => 'open')
    service.app.get('/a/read', async () => 'read')
    service.app.route({ method: methods, url: '/a/both', handler: async () => 'both' })
    t.match(await stopOf(service), { code: 'MARTY_CORE_RULE_MISSING', message: '/a/both' })
  }
  const { app } = await withRules(t, { url: '/b/*', methods: ['GET'], authenticate: true }, { url: '/b/*', public: true })
  app.head('/b/one', async () => 'head')
  app.get('/b/one', async () => 'one')
  app.post('/b/one', async () => 'post')
  t.equal((await app.inject({ method: 'HEAD', url: '/b/one' })).statusCode, 401)
  t.equal((await app.inject('/b/one')).statusCode, 401)
  t.equal((await app.inject({ method: 'POST', url: '/b/one' })).statusCode, 200)
})

t.test('a rule that comes after a route that it matches stops the start', async t => {
  const { app } = await withRules(t, { url: '/a/*', public: true })
  app.get('/a/early', async () => 'early')
  t.throws(() => { declareRules(app, [{ url: '/a/early', authenticate: true }]) }, { message: /was registered before/ })
  const plain = Fastify()
  t.teardown(() => plain.close())
  useGuard(plain)
  plain.get('/a/early', async () => 'early')
  t.throws(() => { declareRules(plain, [{ url: '/a/*', public: true }]) }, { message: /was registered before/ })
})

t.test('a rule that matches nothing, or could match everything, stops the start', async t => {
  const service = await withRules(t, { url: '/dcos/*', public: true }, { url: '/own', public: true })
  service.app.get('/own', { config: { security: { authenticate: true } } }, async () => 'own')
  service.app.get('/docs/one', { config: { security: { public: true } } }, async () => 'one')
  const { code, message } = await stopOf(service)
  t.equal(code, 'MARTY_CORE_RULE_INVALID')
  t.match(message, 'rules[0] (/dcos/*) matches no route without a rule of its own')
  t.match(message, 'rules[1] (/own) matches no route without a rule of its own')

  for (const url of ['*', '/*', '//*', '/a*', '/*/b', 'docs', '', '/a/*/b', undefined, 7]) {
    const rules = [{ url, public: true }] as unknown as SecurityOptions['rules']
    await t.rejects(createService(t, options => ({ ...options, rules })), { code: 'MARTY_CORE_RULE_INVALID' }, `${url}`)
  }
  const wrong = await withRules(t, { url: '/x', permision: 'report:read' } as unknown as RouteRule)
  wrong.app.get('/x', async () => 'x')
  t.match(await stopOf(wrong), { message: /security\.permision; did you mean "permission"/ })
  await t.rejects(createService(t, options => ({ ...options, rules: ['/x'] })), { code: 'MARTY_SECURITY_OPT_INVALID' })
})

import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance, type LightMyRequestResponse } from 'fastify'
import { defineError, problemErrorHandler, useGuard } from '@marty/core'
import { headers, type CorsOptions } from '@marty/headers'

const APP = 'https://app.example.org'
const Limited = defineError({ name: 'Limited', code: 'TEST_LIMITED', statusCode: 429, message: 'slow down' })

async function build (t: Test, cors: Partial<CorsOptions> | undefined = {}): Promise<FastifyInstance> {
  const app = Fastify()
  app.setErrorHandler(problemErrorHandler)
  const guard = useGuard(app, { strict: true })
  guard.addCheck({
    name: 'limiter',
    stage: 'throttle',
    keys: [],
    compile: ({ name }) => name === 'GET /limited' ? () => { throw new Limited() } : null
  })
  await app.register(headers, { environment: 'production', cors: { origins: [APP, 'http://localhost:5173'], ...cors } })
  app.get('/data', { config: { security: { public: true } } }, async () => 'data')
  app.get('/mine', { config: { security: { authenticate: true } } }, async () => 'mine')
  app.get('/limited', { config: { security: { public: true } } }, async () => 'x')
  app.get('/closed', { config: { security: { public: true }, cors: false } as object }, async () => 'x')
  t.teardown(() => app.close())
  return app
}

function corsHeaders (answer: LightMyRequestResponse): string[] {
  return Object.keys(answer.headers).filter(name => name.startsWith('access-control-'))
}

t.test('origins that only look like an allowed one get no CORS header, but always Vary', async t => {
  const app = await build(t, { credentials: true })
  const lookAlikes = [
    'null', '*', '',
    'https://app.example.org.evil.example', 'https://evilapp.example.org', 'https://sub.app.example.org',
    'https://appXexample.org', 'https://user@app.example.org', 'https://APP.example.org',
    'http://app.example.org', 'https://app.example.org:444', 'http://localhost', 'http://localhost:51730',
    'https://app.example.org/', 'https://app.example.org ', 'https://app.example.org, https://evil.example'
  ]
  const requests = [
    ['GET', '/data'], ['GET', '/limited'], ['GET', '/mine'], ['GET', '/nothing'], ['OPTIONS', '/data']
  ] as const
  for (const origin of lookAlikes) {
    for (const [method, url] of requests) {
      const answer = await app.inject({ method, url, headers: { origin, 'access-control-request-method': 'GET' } })
      t.same(corsHeaders(answer), [], `${method} ${url} from ${origin}`)
      t.match(answer.headers.vary, /\bOrigin\b/, `${method} ${url} from ${origin}`)
    }
  }
  const none = await app.inject('/data')
  t.same(corsHeaders(none), [])
  t.equal(none.headers.vary, 'Origin', 'once, also without an Origin')
})

t.test('an exact origin is allowed, on refusals too, so that the page can read them', async t => {
  const app = await build(t, { credentials: true })
  for (const [url, status] of [['/data', 200], ['/mine', 401], ['/limited', 429], ['/nothing', 404]] as const) {
    const answer = await app.inject({ url, headers: { origin: APP } })
    t.equal(answer.statusCode, status)
    t.match(answer.headers, {
      'access-control-allow-origin': APP,
      'access-control-allow-credentials': 'true',
      'access-control-expose-headers': 'ratelimit, ratelimit-policy, retry-after',
      vary: 'Origin'
    }, url)
  }
  const closed = await app.inject({ url: '/closed', headers: { origin: APP } })
  t.same(corsHeaders(closed), [])
})

t.test('a preflight is answered without authentication; it lists what is allowed and reflects nothing', async t => {
  const app = await build(t)
  const asked = { 'access-control-request-method': 'DELETE', 'access-control-request-headers': 'x-evil' }
  const answer = await app.inject({ method: 'OPTIONS', url: '/mine', headers: { origin: APP, ...asked } })
  t.equal(answer.statusCode, 204)
  t.match(answer.headers, {
    'access-control-allow-origin': APP,
    'access-control-allow-methods': 'GET, HEAD, POST',
    'access-control-allow-headers': 'authorization, content-type',
    'access-control-max-age': '600',
    'content-security-policy': /default-src 'none'/
  })
  t.notOk('access-control-allow-credentials' in answer.headers)
  t.equal(app.guard.operations().find(operation => operation.name === 'OPTIONS *')?.rule.public, true)
})

t.test('without the option `cors`, no origin is allowed', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(headers, { environment: 'production' })
  app.get('/data', async () => 'data')
  const answer = await app.inject({ url: '/data', headers: { origin: APP } })
  t.same(corsHeaders(answer), [])
})

t.test('a route cannot allow origins that the plugin does not allow', async t => {
  const app = await build(t)
  const config: object = { security: { public: true }, cors: { origin: '*' } }
  t.throws(() => { app.get('/open', { config }, async () => 'x') }, {
    code: 'MARTY_HEADERS_OPT_INVALID',
    message: 'route /open: headers option "config.cors" must be false or left out'
  })
})

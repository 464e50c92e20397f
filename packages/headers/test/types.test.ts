import t from 'tap'
import Fastify, { type FastifyContextConfig } from 'fastify'
import { headers, HeadersOptionInvalid, type HeaderOverrides, type HeadersOptions, type Permissions } from '@marty/headers'

// The compiler checks this file; running it shows only that the right uses work.

t.test('the options have types, and so have those of register', async t => {
  const options: HeadersOptions = {
    environment: 'production',
    api: false,
    csp: { 'img-src': ["'self'", 'blob:'], 'form-action': null },
    permissions: { camera: ['self'] },
    cors: { origins: ['https://app.example.org'], credentials: true, maxAgeSeconds: 60 },
    hsts: false
  }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(headers, { ...options, logLevel: 'warn' })

  // @ts-expect-error the environment is required
  const missing: HeadersOptions = {}
  // @ts-expect-error there is no such environment
  const environment: HeadersOptions = { environment: 'prod' }
  // @ts-expect-error there is no such directive
  const directive: HeaderOverrides = { csp: { 'script-scr': ["'self'"] } }
  // @ts-expect-error sources are a list
  const sources: HeaderOverrides = { csp: { 'script-src': "'self'" } }
  // @ts-expect-error there is no such browser feature
  const feature: Permissions = { camra: ['self'] }
  // @ts-expect-error CORS without origins allows nothing
  const origins: HeadersOptions = { ...options, cors: { credentials: true } }
  // @ts-expect-error HSTS is on or false, never true
  const hsts: HeadersOptions = { ...options, hsts: true }
  // @ts-expect-error options are read-only
  options.environment = 'staging'
  t.equal([missing, environment, directive, sources, feature, origins, hsts].length, 7)
})

t.test('a route overrides the policy and the permissions, or has the options of helmet', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(headers, { environment: 'testing' })
  app.get('/page', { config: { headers: { csp: { 'default-src': ["'self'"] } } } }, async () => 'page')

  app.get('/helmet', { helmet: { xFrameOptions: false } }, async (request, reply) => reply.cspNonce)

  // @ts-expect-error a route cannot be without headers
  const none: FastifyContextConfig = { headers: false }
  // @ts-expect-error a route cannot change the environment
  const environment: FastifyContextConfig = { headers: { environment: 'staging' } }
  // @ts-expect-error `true` would have no meaning
  t.throws(() => app.get('/true', { helmet: true }, async () => 'other'))
  for (const config of [none, environment]) {
    t.throws(() => app.get('/other', { config }, async () => 'other'), HeadersOptionInvalid)
  }
})

t.test('the error has a literal code', async t => {
  const { code }: { code: 'MARTY_HEADERS_OPT_INVALID' } = new HeadersOptionInvalid('no')
  t.equal(code, 'MARTY_HEADERS_OPT_INVALID')
})

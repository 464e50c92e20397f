import t from 'tap'
import Fastify from 'fastify'
import { headers, type HeadersOptions } from '@marty/headers'

t.test('options that would not do what they say are refused by name', async t => {
  const cors = (over: object): object => ({ environment: 'production', cors: { origins: ['https://a.example'], ...over } })
  const bad: Array<[unknown, RegExp]> = [
    [{}, /environment is "undefined"; it must be one of development, testing, staging, production/],
    [{ environment: 'prod' }, /environment is "prod"/],
    [{ environment: 'prodution' }, /did you mean "production"/],
    [{ environment: 'Production' }, /environment is "Production"/],
    [{ environment: 'production', csps: {} }, /csps is not known; did you mean "csp"/],
    [{ environment: 'production', api: 'yes' }, /api must be true or false/],
    [{ environment: 'production', csp: { 'script-scr': ["'self'"] } }, /csp\.script-scr is not known; did you mean "script-src"/],
    [{ environment: 'production', csp: { 'img-src': 'blob:' } }, /csp\.img-src must be a list/],
    [{ environment: 'production', csp: { 'img-src': ["'self'; script-src *"] } }, /csp\.img-src has/],
    [{ environment: 'production', csp: { 'img-src': ['self'] } }, /csp is refused: .*should be quoted/],
    [{ environment: 'production', csp: { 'default-src': null } }, /csp is refused: .*default-src/],
    [{ environment: 'production', permissions: { camra: [] } }, /permissions\.camra is not known; did you mean "camera"/],
    [{ environment: 'production', permissions: { camera: ['*'] } }, /permissions\.camera has "\*"/],
    [{ environment: 'production', hsts: { maxAgeSeconds: 31_536_000 } }, /hsts\.maxAgeSeconds must be an integer of at least 63072000/],
    [{ environment: 'production', hsts: { preload: 1 } }, /hsts\.preload/],
    [{ environment: 'production', hsts: { maxage: 1 } }, /hsts\.maxage is not known/],
    [{ environment: 'production', cors: {} }, /cors\.origins must be a list/],
    [cors({ origins: ['*'] }), /cors\.origins has "\*"/],
    [cors({ origins: ['null'] }), /cors\.origins has "null"/],
    [cors({ origins: ['https://a.example/'] }), /cors\.origins has "https:\/\/a\.example\/"/],
    [cors({ origins: ['https://*.a.example'] }), /cors\.origins has/],
    [cors({ origins: ['https://A.example'] }), /cors\.origins has/],
    [cors({ origins: ['https://a.example:443'] }), /cors\.origins has/],
    [cors({ origins: [/a/] }), /cors\.origins has/],
    [cors({ methods: ['get'] }), /cors\.methods has "get"/],
    [cors({ headers: ['*'] }), /cors\.headers has "\*"/],
    [cors({ exposedHeaders: ['x\r\ny'] }), /cors\.exposedHeaders has/],
    [cors({ credentials: 'yes' }), /cors\.credentials/],
    [cors({ maxAge: 7201 }), /cors\.maxAge must be an integer from 0 to 7200 seconds, not 7201/],
    [cors({ origin: [] }), /cors\.origin is not known; did you mean "origins"/]
  ]
  for (const [options, message] of bad) {
    const app = Fastify()
    t.teardown(() => app.close())
    await t.rejects(async () => await app.register(headers, options as HeadersOptions), { code: 'MARTY_HEADERS_OPT_INVALID', message }, String(message))
  }
})

t.test('a route\'s own policy is checked when the route is registered', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(headers, { environment: 'production' })
  const route = (headers: object): void => { app.get('/page', { config: { headers } }, async () => 'x') }
  t.throws(() => { route({ csp: { 'script-scr': [] } }) }, { code: 'MARTY_HEADERS_OPT_INVALID', message: /config\.headers of \/page: csp\.script-scr.*did you mean "script-src"/ })
  t.throws(() => { route({ csp: { 'script-src': ['unsafe-inline'] } }) }, { message: /config\.headers of \/page: csp is refused/ })
  t.throws(() => { route({ cps: {} }) }, { message: /did you mean "csp"/ })
})

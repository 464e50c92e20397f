import t from 'tap'
import Fastify from 'fastify'
import { headers, type HeadersOptions } from '@marty/headers'

const ORIGIN = 'must be an exact origin such as "https://app.example.org", with nothing after the host and port, not'
const NAME = 'must be the name of a header, not "*", not'
const production = (over: object): object => ({ environment: 'production', ...over })
const csp = (directives: object): object => production({ csp: directives })
const cors = (over: object): object => production({ cors: { origins: ['https://a.example'], ...over } })

t.test('options that would not have the effect they state stop the start, and the message names them', async t => {
  const refused: Array<[unknown, string | RegExp]> = [
    [{}, '"environment" is required; it must be "development", "testing", "staging" or "production"'],
    [{ environment: 'prod' }, '"environment" must be "development", "testing", "staging" or "production", not "prod"'],
    [{ environment: 'prodution' }, 'not "prodution"; did you mean "production"?'],
    [{ environment: 'Production' }, 'not "Production"; did you mean "production"?'],
    [production({ csps: {} }), '"csps" is not known; did you mean "csp"?'],
    [production({ api: 'yes' }), '"api" must be true or false, not "yes"'],
    [csp({ 'script-scr': ["'self'"] }), '"csp.script-scr" is not known; did you mean "script-src"?'],
    [csp({ 'img-src': 'blob:' }), '"csp.img-src" must be null or a list, each item a source'],
    [csp({ 'img-src': ["'self'; script-src *"] }), '"csp.img-src[0]" must be a source without spaces, ";" or ",", not'],
    [csp({ 'img-src': ['self'] }), /"csp" is refused: .*should be quoted/],
    [csp({ 'default-src': null }), /"csp" is refused: .*default-src/],
    [production({ permissions: { camra: [] } }), '"permissions.camra" is not known; did you mean "camera"?'],
    [production({ permissions: { camera: ['*'] } }), '"permissions.camera[0]" must be "self" or an exact origin'],
    [production({ hsts: { maxAgeSeconds: 31_536_000 } }), /"hsts.maxAgeSeconds" must be .* at least 63072000/],
    [production({ hsts: { preload: 1 } }), '"hsts.preload" must be true or false, not 1'],
    [production({ hsts: { maxage: 1 } }), '"hsts.maxage" is not known'],
    [production({ cors: {} }), '"cors.origins" is required'],
    [cors({ origins: ['*'] }), `"cors.origins[0]" ${ORIGIN} "*"`],
    [cors({ origins: ['null'] }), `"cors.origins[0]" ${ORIGIN} "null"`],
    [cors({ origins: ['https://a.example/'] }), `"cors.origins[0]" ${ORIGIN} "https://a.example/"`],
    [cors({ origins: ['https://a.example', 'https://*.a.example'] }), `"cors.origins[1]" ${ORIGIN}`],
    [cors({ origins: ['https://A.example'] }), `"cors.origins[0]" ${ORIGIN}`],
    [cors({ origins: ['https://a.example:443'] }), `"cors.origins[0]" ${ORIGIN}`],
    [cors({ origins: [/a/] }), `"cors.origins[0]" ${ORIGIN} an empty object`],
    [cors({ methods: ['get'] }), '"cors.methods[0]" must be a method in capitals, not "get"'],
    [cors({ headers: ['*'] }), `"cors.headers[0]" ${NAME} "*"`],
    [cors({ exposedHeaders: ['x\r\ny'] }), `"cors.exposedHeaders[0]" ${NAME}`],
    [cors({ credentials: 'yes' }), '"cors.credentials" must be true or false, not "yes"'],
    [cors({ maxAgeSeconds: 7201 }), '"cors.maxAgeSeconds" must be an integer from 0 to 7200, not 7201'],
    [cors({ origin: [] }), '"cors.origin" is not known; did you mean "origins"?']
  ]
  for (const [options, message] of refused) {
    const app = Fastify()
    t.teardown(() => app.close())
    const registered = async (): Promise<unknown> => await app.register(headers, options as HeadersOptions)
    await t.rejects(registered, { code: 'MARTY_HEADERS_OPT_INVALID', name: 'HeadersOptionInvalid' }, String(message))
    t.match(await registered().catch(error => error.message), message)
  }
})

t.test('the options of register are accepted', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(headers, { environment: 'staging', prefix: '/v1', logLevel: 'silent', logSerializers: {} })
  t.match((await app.inject('/')).headers, { 'x-content-type-options': 'nosniff' })
})

t.test("a route's own policy is checked when the route is registered", async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(headers, { environment: 'production' })
  const route = (headers: object): void => { app.get('/page', { config: { headers } }, async () => 'x') }
  const at = 'route /page: headers option'
  t.throws(() => { route({ csp: { 'script-scr': [] } }) }, {
    code: 'MARTY_HEADERS_OPT_INVALID',
    message: `${at} "csp.script-scr" is not known; did you mean "script-src"?`
  })
  t.throws(() => { route({ csp: { 'script-src': ['unsafe-inline'] } }) }, { message: `${at} "csp" is refused: ` })
  t.throws(() => { route({ cps: {} }) }, { message: `${at} "cps" is not known; did you mean "csp"?` })
  t.throws(() => { route({ environment: 'staging' }) }, { message: `${at} "environment" is not known` })
})

t.test('the `helmet` option of a route is checked when the route is registered', async t => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(headers, { environment: 'production' })
  const route = (options: object): void => { app.get('/page', options, async () => 'x') }
  const at = 'route /page: headers option "helmet"'
  const directives = { 'script-src': ['unsafe-inline'] }

  t.throws(() => { route({ helmet: { contentSecurityPolicy: { directives } } }) }, {
    code: 'MARTY_HEADERS_OPT_INVALID',
    message: `${at} is refused: Content-Security-Policy`
  })
  t.throws(() => { route({ helmet: { hsts: false } }) }, { message: `${at} is refused: ` })
  t.throws(() => { route({ helmet: {}, config: { headers: {} } }) }, {
    message: `${at} cannot be combined with "config.headers": use one of them`
  })
})

import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { type Authenticator, CredentialInvalid, type Principal, useGuard } from '@marty/core'
import { metrics, type MetricsOptions } from '@marty/metrics'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

const ANA: Principal = {
  id: 'ana',
  kind: 'user',
  roles: ['operator'],
  authenticatedBy: 'jwt',
  expiresAt: null,
  claims: {},
  scopes: [],
  session: null
}

/** Accepts `Authorization: Bearer ana`, and reports it like the authentication package. */
const jwt = (app: FastifyInstance): Authenticator => ({
  method: 'jwt',
  find: request => request.headers.authorization?.slice(7) ?? null,
  accepts: () => true,
  authenticate: async (token, { address, requestId }) => {
    if (token !== 'ana') throw new CredentialInvalid()
    await app.guard.emit({
      type: 'authentication',
      action: 'authenticate.jwt',
      outcome: 'success',
      reason: null,
      principal: ANA,
      address,
      requestId: requestId ?? null
    })
    return ANA
  }
})

async function build (t: Test, options: MetricsOptions = { security: { public: true } }): Promise<FastifyInstance> {
  const app = Fastify()
  t.teardown(() => app.close())
  const guard = useGuard(app, { strict: true })
  guard.addAuthenticator(jwt(app))
  await app.register(metrics, options)
  app.get('/cameras/:id', { config: { security: { authenticate: true } } }, async () => ({}))
  app.get('/open', { config: { security: { public: true } } }, async () => ({}))
  return app
}

const scrape = async (app: FastifyInstance): Promise<string> => (await app.inject('/metrics')).body
const bearer = (token: string): { headers: Record<string, string> } => ({ headers: { authorization: `Bearer ${token}` } })

t.test('requests are counted by route pattern, status and kind of caller', async t => {
  const app = await build(t)
  for (const id of ['1', '2', '3']) await app.inject({ url: `/cameras/${id}?secret=1`, ...bearer('ana') })
  await app.inject('/cameras/1')
  await app.inject('/open')
  const text = await scrape(app)
  t.match(text, 'http_requests_total{method="GET",route="/cameras/:id",status="200",principal="user"} 3\n')
  t.match(text, 'http_requests_total{method="GET",route="/cameras/:id",status="401",principal="anonymous"} 1\n')
  t.match(text, 'http_requests_total{method="GET",route="/open",status="200",principal="anonymous"} 1\n')
  t.match(text, 'http_request_duration_seconds_count{method="GET",route="/cameras/:id"} 4\n')
  t.notMatch(text, /secret|ana/)
})

t.test('what clients choose never becomes a label: URLs, methods, header values', async t => {
  const app = await build(t)
  for (let i = 0; i < 300; i++) await app.inject(`/no/such/${i}"}evil 1\n`)
  for (const method of ['PROPFIND', 'TRACE', 'MKCOL']) await app.inject({ method: method as 'GET', url: '/open' })
  const text = await scrape(app)
  t.match(text, 'http_requests_total{method="GET",route="unmatched",status="404",principal="anonymous"} 300\n')
  const series = text.split('\n').filter(line => line.startsWith('http_requests_total{'))
  t.ok(series.length <= 4, `${series.length} series`)
  t.notMatch(text, /evil|such|PROPFIND|MKCOL/)
})

t.test('credentials are counted: accepted ones by method, refused ones by reason', async t => {
  const app = await build(t)
  await app.inject({ url: '/cameras/1', ...bearer('ana') })
  for (let i = 0; i < 5; i++) await app.inject({ url: '/cameras/1', ...bearer('eve') })
  await app.inject('/cameras/1')
  const text = await scrape(app)
  t.match(text, 'auth_attempts_total{method="jwt",status="success",reason=""} 1\n')
  t.match(text, 'auth_attempts_total{method="unknown",status="failed",reason="MARTY_CORE_CREDENTIAL_INVALID"} 5\n')
  t.match(text, 'auth_attempts_total{method="unknown",status="failed",reason="MARTY_CORE_UNAUTHENTICATED"} 1\n')
  t.match(text, 'security_events_total{type="authentication",outcome="failure",reason="MARTY_CORE_UNAUTHENTICATED"} 1\n')
})

t.test('the number of reasons is bounded, whatever an application emits', async t => {
  const app = await build(t)
  await app.ready()
  for (let i = 0; i < 1_000; i++) {
    await app.guard.emit({
      type: 'policy',
      action: `reload-${i}`,
      outcome: 'failure',
      reason: `CODE_${i}`,
      principal: ANA,
      address: null,
      requestId: null
    })
  }
  const text = await scrape(app)
  t.equal(text.split('\n').filter(line => line.startsWith('security_events_total{')).length, 201)
  t.match(text, 'security_events_total{type="policy",outcome="failure",reason="other"} 800\n')
})

t.test('JSON-RPC calls are counted by declared method only', async t => {
  const app = await build(t)
  app.guard.operation({ name: 'take_snapshot', transport: 'rpc', rule: { public: true }, where: 'method' })
  await app.ready()
  for (const action of ['take_snapshot', 'take_snapshot', 'invented_by_a_client']) {
    await app.guard.emit({
      type: 'operation', action, outcome: 'success', reason: null, principal: ANA, address: null, requestId: null
    })
  }
  const text = await scrape(app)
  t.match(text, 'rpc_calls_total{method="take_snapshot",outcome="success"} 2\n')
  t.notMatch(text, 'invented')
})

t.test('readings of other plugins are current at each scrape, and may come from several of one kind', async t => {
  const app = await build(t)
  let hits = 1
  const reading = (rule: string) => () => [{
    name: 'rate_limit_hits_total',
    help: 'Requests refused.',
    type: 'counter' as const,
    values: [{ labels: { rule }, value: hits }]
  }]
  app.guard.addMetrics(reading('login'))
  app.guard.addMetrics(reading('reads'))
  t.match(await scrape(app), 'rate_limit_hits_total{rule="login"} 1\nrate_limit_hits_total{rule="reads"} 1\n')
  hits = 7
  const text = await scrape(app)
  t.match(text, 'rate_limit_hits_total{rule="login"} 7\nrate_limit_hits_total{rule="reads"} 7\n')
  t.equal(text.match(/# TYPE rate_limit_hits_total counter/g)?.length, 1)
})

t.test('a client that leaves before its answer does not stay in progress', async t => {
  const app = await build(t)
  let arrived = (): void => {}
  const seen = new Promise<void>(resolve => { arrived = resolve })
  app.get('/slow', { config: { security: { public: true } } }, async (request, reply) => {
    arrived()
    await once(request.raw.socket, 'close')
    return reply.hijack()
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  socket.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n')
  await seen
  t.match(await app.metrics.text(), 'http_requests_in_progress 1\n')
  socket.destroy()
  while (!(await app.metrics.text()).includes('http_requests_in_progress 0\n')) await nextTurn()
})

t.test('the process is measured, and two applications do not share a registry', async t => {
  const [one, two] = [await build(t), await build(t, { security: { public: true }, process: false })]
  t.match(await scrape(one), /^nodejs_eventloop_lag_p99_seconds /m)
  t.notMatch(await scrape(two), 'nodejs_')
  await one.inject('/open')
  t.notMatch(await scrape(two), 'route="/open"')
})

t.test('the route follows its own security rule', async t => {
  const app = await build(t, { path: '/internal/metrics', security: { authenticate: true } })
  t.equal((await app.inject('/internal/metrics')).statusCode, 401)
  const answer = await app.inject({ url: '/internal/metrics', ...bearer('ana') })
  t.equal(answer.statusCode, 200)
  t.match(answer.headers, { 'content-type': /^text\/plain; version=0\.0\.4/, 'cache-control': 'no-store' })
})

t.test('without a route, another server can send the text', async t => {
  const app = await build(t, { path: null })
  t.equal((await app.inject('/metrics')).statusCode, 404)
  t.match(await app.metrics.text(), '# TYPE http_requests_total counter')
})

t.test('bad options stop the start and say what to do', async t => {
  const cases: Array<[unknown, RegExp]> = [
    [{}, /option "security" is required: say who may read the metrics/],
    [{ securty: { public: true } }, /option "securty" is not known; did you mean "security"\?/],
    [{ security: { public: true }, path: 'metrics' }, /option "path" must be null or a path such as/],
    [{ security: { public: true }, path: '/m/' }, /option "path" must be/],
    [{ security: { public: true }, bucketsSeconds: [] }, /option "bucketsSeconds" must be a list of positive numbers/],
    [{ security: { public: true }, bucketsSeconds: [1, 1] }, /option "bucketsSeconds"/],
    [{ security: { public: true }, bucketsSeconds: [0, 1] }, /option "bucketsSeconds"/],
    [{ security: { public: true }, process: 'yes' }, /option "process" must be true or false/]
  ]
  for (const [options, message] of cases) {
    const app = Fastify()
    t.teardown(() => app.close())
    await t.rejects(async () => { await app.register(metrics, options as MetricsOptions) }, {
      code: 'MARTY_METRICS_OPT_INVALID', message
    })
  }
})

t.test("Fastify's own register options are accepted", async t => {
  const app = await build(t, { security: { public: true }, logLevel: 'warn' } as MetricsOptions)
  t.equal((await app.inject('/metrics')).statusCode, 200)
})

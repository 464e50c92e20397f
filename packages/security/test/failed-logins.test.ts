import t, { type Test } from 'tap'
import { once } from 'node:events'
import Fastify, { type FastifyInstance } from 'fastify'
import { connect, type AddressInfo } from 'node:net'
import { auth, createMemoryApiKeyStore, type AuthOptions } from '@marty/auth'
import { setProblemHandlers, useGuard, type SecurityEvent } from '@marty/core'
import { jsonRpc } from '@marty/json-rpc'
import { rateLimit } from '@marty/rate-limit'
import { openRedis } from '@marty/redis'
import { freePort, startRedis } from '@marty/testing'
import { foreign, provide } from '@marty/testing/provider'
import { bearer, PEPPER, secretFor, TOKENS } from '@marty/testing/tokens'
import { connectRpc } from './rpc-client.js'

// For a machine that hangs; nothing here is about speed.
t.setTimeout(600_000)

const MOST = 5
const server = await startRedis(await freePort())
t.teardown(() => server.stop())
const redis = openRedis({ url: `redis://127.0.0.1:${server.port}`, commandTimeoutMs: 5_000 })
t.teardown(() => redis.close())
await redis.ready(30_000)
let prefixes = 0

interface Service { readonly app: FastifyInstance, readonly events: SecurityEvent[] }

/** A service on a real socket in which five wrong credentials from one address are too many. */
async function listen (
  t: Test,
  place: 'memory' | 'Redis' = 'memory',
  options: Partial<AuthOptions> = {}
): Promise<Service> {
  const app = Fastify() as unknown as FastifyInstance
  t.teardown(() => app.close())
  const events: SecurityEvent[] = []
  useGuard(app, { strict: true }).addSink(event => {
    events.push(event)
  })
  setProblemHandlers(app)
  const store =
    place === 'memory' ? {} : { store: { redis: redis.client, prefix: `failures-${++prefixes}`, deadlineMs: 5_000 } }
  await app.register(rateLimit, {
    rules: { 'failed-logins': { limit: MOST, windowMs: 3_600_000, by: 'address' } },
    onAuthenticationFailure: ['failed-logins'],
    ...store
  })
  await app.register(auth, {
    ...TOKENS,
    routes: { introspection: { authenticate: ['apiKey'] } },
    refresh: { secret: secretFor('refresh'), clientCredentials: true },
    apiKeys: { store: createMemoryApiKeyStore(), prefix: 'cam', environment: 'test', pepper: PEPPER, bcryptCost: 8 },
    ...options
  })
  await app.register(jsonRpc)
  app.rpc.method({ name: 'who', security: { authenticate: true }, handler: (_params, { principal }) => principal.id })
  app.post('/change', { config: { security: { authenticate: true } } }, async () => 'changed')
  app.get('/who', { config: { security: { authenticate: true } } }, async request => request.principal.id)
  await app.listen({ host: '127.0.0.1', port: 0 })
  return { app, events }
}

const get = async ({ app }: Service, headers: Record<string, string>): Promise<number> =>
  (await app.inject({ url: '/who', headers })).statusCode

/** Uses up what the address has of failures, and shows that it has. */
async function exhaust (t: Test, service: Service): Promise<void> {
  for (let i = 0; i < MOST; i++) t.equal(await get(service, bearer(`wrong.token.${i}`)), 401)
  t.equal(await get(service, bearer('wrong.token.again')), 429)
}

/** Sends one request as it is written, and answers its status. */
async function raw ({ app }: Service, text: string): Promise<number> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
  socket.end(text)
  let answer = ''
  socket.on('data', chunk => { answer += String(chunk) })
  await once(socket, 'close')
  return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1])
}

for (const place of ['memory', 'Redis'] as const) {
  t.test(
    `${place}: right credentials are let in from an address whose failures are used up, wrong ones are not told of`,
    async t => {
      const provider = await provide(t)
      const service = await listen(t, place, { trustedIssuers: [provider.options] })
      const { app } = service
      const { key } = await app.auth.apiKeys!.create({ name: 'k', roles: [], expiresInSeconds: 3_600 })
      const signedIn = (await app.inject({ method: 'POST', url: '/auth/token', headers: { 'x-api-key': key } })).json<{
        refresh_token: string
      }>()
      const token = app.auth.tokens.issue({ subject: 'alice' }).token
      const session = (await app.inject({ method: 'POST', url: '/auth/session', headers: bearer(token) })).cookies[0]!
      await exhaust(t, service)

      const fresh = await app.auth.apiKeys!.create({ name: 'never used', roles: [], expiresInSeconds: 3_600 })
      const right: Record<string, Record<string, string>> = {
        'a token': bearer(token),
        "another issuer's token": bearer(foreign('ES256')),
        'an API key used before': { 'x-api-key': key },
        'an API key never used before': { 'x-api-key': fresh.key },
        'a session': bearer(session.value),
        'a session cookie': { cookie: `${session.name}=${session.value}` }
      }
      for (const [what, headers] of Object.entries(right)) t.equal(await get(service, headers), 200, what)
      t.equal((await app.inject({ method: 'POST', url: '/auth/token', headers: { 'x-api-key': key } })).statusCode, 200)
      t.equal(
        (await app.inject({ method: 'POST', url: '/auth/token', payload: { assertion: foreign('ES256') } })).statusCode,
        200
      )
      t.equal(
        (await app.inject({ method: 'POST', url: '/auth/refresh', payload: { refresh_token: signedIn.refresh_token } }))
          .statusCode,
        200
      )
      const byHeader = await connectRpc(t, app, bearer(token))
      t.equal(await byHeader.call('who'), 'alice')
      const byCall = await connectRpc(t, app)
      t.equal(await byCall.call('authenticate', { auth_token: 'x.y.z' }), -32040)
      await byCall.call('authenticate', { auth_token: token })
      t.equal(await byCall.call('who'), 'alice')

      const bodies = new Set<string>()
      const wrong: Record<string, Record<string, string>> = {
        'no token': bearer('x'),
        'an expired token': bearer(foreign('ES256', { exp: 5, iat: 1 })),
        'a token with another signature': bearer(`${token.slice(0, -4)}AAAA`),
        'an API key with another secret': { 'x-api-key': key.slice(0, -1) + (key.endsWith('a') ? 'b' : 'a') },
        'a session that never was': bearer(`ses_${'A'.repeat(43)}`),
        'two credentials': { ...bearer(token), 'x-api-key': key }
      }
      for (const [what, headers] of Object.entries(wrong)) {
        const answer = await app.inject({ url: '/who', headers })
        t.equal(answer.statusCode, 429, what)
        const { retry_after_ms: _, request_id: __, detail: ___, ...body } = answer.json<Record<string, unknown>>()
        bodies.add(JSON.stringify(body))
      }
      t.equal(bodies.size, 1, 'one answer')
      t.equal((await app.inject('/who')).statusCode, 401, 'nothing is guessed without a credential')
    }
  )
}

t.test('a page of another site cannot lock its visitor out, whatever route and form it uses', async t => {
  const service = await listen(t)
  const { app, events } = service
  const token = app.auth.tokens.issue({ subject: 'alice' }).token
  const routes: Array<[method: 'POST' | 'DELETE', url: string]> = [
    ['POST', '/auth/refresh'],
    ['POST', '/auth/token'],
    ['POST', '/auth/revoke'],
    ['POST', '/auth/logout'],
    ['POST', '/auth/introspect'],
    ['POST', '/auth/session'],
    ['DELETE', '/auth/session'],
    ['DELETE', '/auth/sessions']
  ]
  const pages: Record<string, string>[] = [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { 'sec-fetch-site': 'cross-site', origin: 'https://evil.test' },
    { origin: 'https://evil.test' },
    { origin: 'null' },
    { origin: 'null', 'sec-fetch-site': 'none' },
    { origin: '' },
    { 'sec-fetch-site': '' },
    { origin: 'https://cameras.test.evil.test' }
  ]
  const forms: Array<[type: string, body: string]> = [
    ['application/x-www-form-urlencoded', 'refresh_token=x&token=x&assertion=x&grant_type=refresh_token'],
    ['text/plain', '{"refresh_token":"x","token":"x","pad":"="}'],
    [
      'multipart/form-data; boundary=x',
      '--x\r\ncontent-disposition: form-data; name="refresh_token"\r\n\r\nx\r\n--x--\r\n'
    ]
  ]
  for (const [method, url] of routes) {
    for (const page of pages) {
      for (const [type, payload] of forms) {
        for (const credential of [{}, bearer('wrong.token.x'), { cookie: `__Host-session=ses_${'A'.repeat(43)}` }]) {
          const answer = await app.inject({
            method,
            url,
            payload,
            headers: { host: 'cameras.test', 'content-type': type, ...page, ...credential } as Record<string, string>
          })
          if (answer.statusCode !== 403 || answer.json<{ code: string }>().code !== 'MARTY_AUTH_CSRF_INVALID') {
            t.fail(`${url} ${JSON.stringify(page)} ${type}: ${answer.statusCode}`)
          }
        }
      }
    }
  }
  t.strictSame(events.filter(({ type }) => type === 'authentication'), [], 'no failed login')
  t.equal(app.limiter.metrics()['failed-logins']!.allowed, 0)
  await exhaust(t, service)
  t.equal(await get(service, bearer(token)), 200)
})

t.test('programs, pages of the service and named origins are asked for their credential as before', async t => {
  const service = await listen(t, 'memory', { sessions: { trustedOrigins: ['https://console.test'] } })
  const { app } = service
  const { key } = await app.auth.apiKeys!.create({ name: 'k', roles: [], expiresInSeconds: 3_600 })
  const pages: Record<string, string>[] = [
    {},
    { 'sec-fetch-site': 'none' },
    { 'sec-fetch-site': 'same-origin', origin: 'https://cameras.test' },
    { origin: 'http://cameras.test' },
    { 'sec-fetch-site': 'same-origin', origin: 'null' },
    { 'sec-fetch-site': 'same-origin', origin: 'https://behind-a-proxy.test' },
    { 'sec-fetch-site': 'cross-site', origin: 'https://console.test' },
    { 'sec-fetch-site': 'same-site', origin: 'https://console.test' }
  ]
  for (const page of pages) {
    const answer = await app.inject({
      method: 'POST',
      url: '/auth/token',
      headers: { host: 'cameras.test', 'x-api-key': key, ...page } as Record<string, string>
    })
    t.equal(answer.statusCode, 200, JSON.stringify(page))
  }
  const elsewhere = await listen(t, 'memory', { sessions: false, trustedOrigins: ['https://console.test'] })
  const { key: other } = await elsewhere.app.auth.apiKeys!.create({ name: 'k', roles: [], expiresInSeconds: 3_600 })
  const answer = await elsewhere.app.inject({
    method: 'POST',
    url: '/auth/token',
    headers: {
      host: 'cameras.test',
      'x-api-key': other,
      'sec-fetch-site': 'cross-site',
      origin: 'https://console.test'
    }
  })
  t.equal(answer.statusCode, 200, 'without sessions too')
  await t.rejects(listen(t, 'memory', { trustedOrigins: ['https://console.test/'] }), {
    code: 'MARTY_AUTH_OPT_INVALID',
    message: /"trustedOrigins\[0\]"/
  })
})

t.test('headers given twice are of no page of ours', async t => {
  const service = await listen(t)
  const post = (more: string): string =>
    'POST /auth/refresh HTTP/1.1\r\nHost: cameras.test\r\nConnection: close\r\nContent-Type: ' +
      `application/json\r\nContent-Length: 21\r\n${more}\r\n{"refresh_token":"x"}`
  t.equal(await raw(service, post('')), 401)
  t.equal(await raw(service, post('Origin: https://cameras.test\r\n')), 401)
  for (const more of [
    'Origin: https://cameras.test\r\nOrigin: https://evil.test\r\n',
    'Origin: https://evil.test\r\nOrigin: https://cameras.test\r\n',
    'Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n',
    'Sec-Fetch-Site: cross-site\r\nsec-fetch-site: none\r\n',
    'ORIGIN: https://evil.test\r\n'
  ]) {
    t.equal(await raw(service, post(more)), 403, more)
  }
})

t.test('what is refused for where it comes from is no failed login on other routes either', async t => {
  const service = await listen(t)
  const { app } = service
  const session = (
    await app.inject({
      method: 'POST',
      url: '/auth/session',
      headers: bearer(app.auth.tokens.issue({ subject: 'alice' }).token)
    })
  ).cookies[0]!
  const cookie = { cookie: `${session.name}=${session.value}` }
  for (let i = 0; i < 2 * MOST; i++) {
    t.equal(
      (await app.inject({ method: 'POST', url: '/change', headers: { ...cookie, 'sec-fetch-site': 'same-site' } }))
        .statusCode,
      403
    )
  }
  for (let i = 0; i < MOST; i++) t.equal(await get(service, bearer(`wrong.token.${i}`)), 401)
})

t.test('any route may refuse pages of other sites; a rule that says it otherwise stops the start', async t => {
  const service = await listen(t, 'memory', { sessions: false })
  for (const sameOrigin of [false, 'yes', null]) {
    const app = Fastify() as unknown as FastifyInstance
    t.teardown(() => app.close())
    await app.register(auth, TOKENS)
    app.post(
      '/change',
      { config: { security: { public: true, sameOrigin: sameOrigin as unknown as true } } },
      async () => 'changed'
    )
    await t.rejects(async () => await app.ready(), {
      code: 'MARTY_CORE_RULE_INVALID',
      message: /POST \/change: security\.sameOrigin can only be true/
    })
  }
  const app = Fastify() as unknown as FastifyInstance
  t.teardown(() => app.close())
  setProblemHandlers(app)
  await app.register(auth, TOKENS)
  await app.register(jsonRpc)
  app.post('/change', { config: { security: { public: true, sameOrigin: true } } }, async () => 'changed')
  app.rpc.method({ name: 'change', security: { public: true, sameOrigin: true }, handler: () => 'changed' })
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.equal(
    (await app.inject({ method: 'POST', url: '/change', headers: { 'sec-fetch-site': 'cross-site' } })).statusCode,
    403
  )
  t.equal((await app.inject({ method: 'POST', url: '/change' })).statusCode, 200)
  t.equal(
    await (await connectRpc(t, app)).call('change'),
    'changed',
    'a connection was asked for its origin when it began'
  )
  t.equal(
    (await service.app.inject({ method: 'POST', url: '/auth/logout', headers: { 'sec-fetch-site': 'cross-site' } }))
      .statusCode,
    403
  )
})

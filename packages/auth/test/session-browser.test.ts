import t, { type Test } from 'tap'
import fc from 'fast-check'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { createMemoryApiKeyStore, type AuthOptions } from '@marty/auth'
import type { SecurityEvent } from '@marty/core'
import { bearer, PEPPER } from '@marty/testing/tokens'
import { build } from './service.js'

const NAME = '__Host-session'
const CLEARED = '__Host-session=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Strict'
const HOST = 'cameras.test'
const UNSAFE = ['POST', 'PUT', 'PATCH', 'DELETE'] as const
const SAFE = ['GET', 'HEAD', 'OPTIONS'] as const

/** A service with one route for every method, and a browser that is signed in as alice. */
async function service (
  t: Test,
  options: Partial<AuthOptions> = {},
  events: SecurityEvent[] = []
): Promise<FastifyInstance> {
  const app = await build(t, { routes: true, ...options }, events)
  app.route({
    method: [...SAFE, ...UNSAFE],
    url: '/thing',
    config: { security: { authenticate: true } },
    handler: async request => ({ by: request.principal.authenticatedBy, id: request.principal.id })
  })
  return app
}

interface Browser { readonly cookie: string, readonly id: string, readonly csrf: string }

async function signIn (app: FastifyInstance, headers: Record<string, string> = {}, subject = 'alice'): Promise<Browser> {
  const { token } = app.auth.tokens.issue({ subject, role: 'viewer' })
  const answer = await app.inject({
    method: 'POST',
    url: '/auth/session',
    headers: { host: HOST, ...bearer(token), ...headers }
  })
  const [{ name, value } = { name: '', value: '' }] = answer.cookies
  return { cookie: `${name}=${value}`, id: value, csrf: answer.json<{ csrf_token: string }>().csrf_token }
}

const get = async (app: FastifyInstance, headers: Record<string, string>, url = '/thing') =>
  await app.inject({ url, headers: { host: HOST, ...headers } })

t.test('signing in by anything but a session gives a cookie that scripts and other hosts cannot have', async t => {
  const events: SecurityEvent[] = []
  const app = await service(
    t,
    {
      apiKeys: { store: createMemoryApiKeyStore(), prefix: 'cam', environment: 'test', pepper: PEPPER, bcryptCost: 8 }
    },
    events
  )
  const { token, expiresAt } = app.auth.tokens.issue({ subject: 'alice', role: 'viewer' })
  const { key } = await app.auth.apiKeys!.create({ name: 'k', roles: ['operator'], expiresInSeconds: 60 })
  for (const headers of [bearer(token), { 'x-api-key': key }]) {
    const answer = await app.inject({
      method: 'POST',
      url: '/auth/session',
      headers: { ...headers, 'user-agent': 'Test\u00a0Browser' }
    })
    t.equal(answer.statusCode, 201)
    t.match(answer.headers['set-cookie'], /^__Host-session=ses_[\w-]{43}; Path=\/; HttpOnly; Secure; SameSite=Strict$/)
    t.equal(answer.headers['cache-control'], 'no-store')
    t.strictSame(Object.keys(answer.json()), ['expires_at', 'csrf_token'])
    t.notMatch(answer.body, answer.cookies[0]!.value, 'scripts do not see the id')
  }
  const issued = await app.inject({ method: 'POST', url: '/auth/session', headers: bearer(token) })
  t.equal(issued.json<{ expires_at: string }>().expires_at, new Date(expiresAt).toISOString())
  const cookies = { [NAME]: issued.cookies[0]!.value }
  t.match((await app.inject({ url: '/thing', cookies })).json(), { by: 'session', id: 'alice' })
  t.match(await app.auth.sessions!.list({ kind: 'user', id: 'alice' }), [
    { address: '127.0.0.1', userAgent: /^[^\n]*$/ },
    {}
  ])
  const created = events.filter(({ action }) => action === 'session.create')
  t.match(created[0], { address: '127.0.0.1', principal: { id: 'alice' }, object: /^[\w-]{43}$/ })

  t.equal((await app.inject({ method: 'POST', url: '/auth/session' })).statusCode, 401, 'nobody')
  t.equal(
    (await app.inject({ method: 'POST', url: '/auth/session', headers: bearer(cookies[NAME]!) })).statusCode,
    401,
    'a session does not beget another'
  )
  const csrf = issued.json<{ csrf_token: string }>().csrf_token
  t.equal(
    (await app.inject({ method: 'POST', url: '/auth/session', cookies, headers: { 'x-csrf-token': csrf } })).statusCode,
    401,
    'nor does its cookie'
  )
})

t.test('another site does not sign its visitor in', async t => {
  const app = await service(t)
  const headers = { host: HOST, ...bearer(app.auth.tokens.issue({ subject: 'mallory' }).token) }
  for (const page of [
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { origin: 'https://evil.test' },
    { origin: 'null' }
  ]) {
    const answer = await app.inject({
      method: 'POST',
      url: '/auth/session',
      headers: { ...headers, ...page } as Record<string, string>
    })
    t.match(answer.json(), { status: 403, code: 'MARTY_AUTH_CSRF_INVALID' })
    t.equal(answer.headers['set-cookie'], undefined)
  }
})

t.test('a session from before signing in ends with it: nobody fixes the id', async t => {
  const app = await service(t)
  const planted = await signIn(app, {}, 'mallory')
  const own = await signIn(app, { cookie: planted.cookie })
  t.not(own.id, planted.id)
  t.equal(await app.auth.sessions!.get(planted.id), null)
  t.match((await get(app, { cookie: own.cookie })).json(), { id: 'alice' })
  const invented = `ses_${'B'.repeat(43)}`
  t.not((await signIn(app, { cookie: `${NAME}=${invented}` })).id, invented)
  const tossed = await signIn(app, { cookie: `${planted.cookie}; ${own.cookie}` })
  t.ok(await app.auth.sessions!.get(tossed.id))
})

t.test('a dead cookie is refused with the one 401, and taken away', async t => {
  const app = await service(t)
  const { token, jti, expiresAt } = app.auth.tokens.issue({ subject: 'alice' })
  const orphan = await app.auth.sessions!.create(await app.guard.authenticate(token, { address: null, requestId: '1' }))
  app.auth.tokens.revoke(jti, expiresAt)
  const over = await signIn(app)
  await app.auth.sessions!.revoke(over.id)
  const [a, b] = [await signIn(app), await signIn(app)]
  const expected = await app.inject({ url: '/thing', headers: bearer('ses_x') })
  t.equal(expected.headers['set-cookie'], undefined, 'a header is not the browser\'s to forget')
  for (const [what, cookie] of Object.entries({
    'source revoked': `${NAME}=${orphan.id}`,
    over: over.cookie,
    forged: `${NAME}=ses_${'A'.repeat(43)}`,
    empty: `${NAME}=`,
    'not an id': `${NAME}=a`,
    'an access token': `${NAME}=${token}`,
    quoted: `${NAME}="${a.id}"`,
    'percent-encoded': `${NAME}=%73${a.id.slice(1)}`,
    'something after it': `${a.cookie}x`,
    tossed: `${NAME}=a; ${NAME}=b`,
    'tossed, the good one first': `${a.cookie}; ${NAME}=x`,
    'tossed, the good one last': `${NAME}=x;${a.cookie}`,
    'tossed, both good': `${a.cookie}; ${b.cookie}`,
    'tossed, the same twice': `${a.cookie}; x=1 ;\t${a.cookie}`,
    'tossed, without a value': `${a.cookie}; ${NAME}`
  })) {
    const answer = await get(app, { cookie })
    t.equal(answer.statusCode, 401, what)
    t.equal(answer.headers['set-cookie'], CLEARED, what)
    t.equal(answer.headers['www-authenticate'], 'Bearer error="invalid_token"', what)
    t.strictSame({ ...answer.json(), request_id: '' }, { ...expected.json(), request_id: '' }, what)
  }
  for (const cookie of [`x${a.cookie}`, a.cookie.toLowerCase(), `session=${a.id}`, `x=${a.cookie}`, '=', ';', NAME]) {
    const answer = await get(app, { cookie })
    t.equal(answer.statusCode, 401)
    t.equal(answer.headers['set-cookie'], undefined, `${cookie} is no session cookie`)
  }
  t.equal((await get(app, { cookie: `theme=dark; ${a.cookie};lang=en` })).statusCode, 200)
})

t.test('a WebSocket handshake with a dead cookie is healed the same way', async t => {
  const app = await service(t)
  await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as { port: number }
  const socket = connect(port, '127.0.0.1')
  socket.end(
    `GET /thing HTTP/1.1\r\nHost: ${HOST}\r\nOrigin: https://${HOST}\r\nConnection: Upgrade\r\nUpgrade: ` +
      'websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nCookie: ' +
      `${NAME}=ses_${'A'.repeat(43)}\r\n\r\n`
  )
  let answer = ''
  socket.on('data', chunk => { answer += String(chunk) })
  await once(socket, 'close')
  t.match(answer, /^HTTP\/1\.1 401 /)
  t.match(answer, new RegExp(`^set-cookie: ${CLEARED}\r$`, 'mi'))
})

t.test('a WebSocket handshake by cookie comes from a page of the service, on guarded and on public routes', async t => {
  const events: SecurityEvent[] = []
  const app = await service(t, { sessions: { trustedOrigins: ['https://console.test'] } }, events)
  // As a WebSocket route is declared; what serves it has no part in this.
  const webSocket = { websocket: true }
  app.get('/guarded', { ...webSocket, config: { security: { authenticate: true } } }, async () => 'accepted')
  app.get(
    '/public',
    { ...webSocket, config: { security: { public: true } }, onRequest: async () => {} },
    async () => 'accepted'
  )
  const { cookie } = await signIn(app)
  for (const url of ['/guarded', '/public']) {
    for (const origin of [
      undefined,
      'null',
      'https://evil.test',
      `https://${HOST}.evil.test`,
      `https://${HOST}:8443`
    ]) {
      const answer = await get(app, { upgrade: 'websocket', cookie, ...(origin === undefined ? {} : { origin }) }, url)
      t.match(answer, { statusCode: 403 }, `${url} ${origin}`)
      t.match(answer.json(), { code: 'MARTY_AUTH_CSRF_INVALID', detail: /Origin/ })
    }
    for (const origin of [`https://${HOST}`, `http://${HOST}`, 'https://console.test']) {
      t.equal((await get(app, { upgrade: 'websocket', cookie, origin }, url)).body, 'accepted', `${url} ${origin}`)
    }
    t.equal(
      events.filter(({ action, reason }) => action === `GET ${url}` && reason === 'MARTY_AUTH_CSRF_INVALID').length,
      5,
      'each refusal is on record, once'
    )
  }
  t.equal((await get(app, { upgrade: 'websocket' }, '/public')).body, 'accepted', 'without the cookie')
  t.equal((await get(app, { cookie }, '/guarded')).body, 'accepted', 'what is no handshake')
})

t.test('a credential in a header counts alone, right or wrong, and no cookie stands in for it', async t => {
  const app = await service(t, {
    apiKeys: { store: createMemoryApiKeyStore(), prefix: 'cam', environment: 'test', pepper: PEPPER, bcryptCost: 8 }
  })
  app.get('/browser', { config: { security: { authenticate: ['session'] } } }, async () => 'ok')
  const { cookie, csrf } = await signIn(app)
  const { key, keyId } = await app.auth.apiKeys!.create({ name: 'k', roles: ['operator'], expiresInSeconds: 60 })
  const bob = app.auth.tokens.issue({ subject: 'bob' }).token
  for (const method of ['GET', 'POST'] as const) {
    const ask = async (headers: Record<string, string>) =>
      await app.inject({ method, url: '/thing', headers: { host: HOST, cookie, ...headers } })
    t.match(
      (await ask(bearer(bob))).json(),
      { by: 'jwt', id: 'bob' },
      'no CSRF token is needed: no other site can set the header'
    )
    t.match((await ask({ 'x-api-key': key })).json(), { by: 'apiKey', id: keyId })
    for (const wrong of [
      bearer('x'),
      bearer(''),
      bearer('ses_x'),
      { 'x-api-key': 'x' },
      { 'x-api-key': '' },
      { ...bearer(bob), 'x-api-key': key }
    ]) {
      const answer = await ask({ 'x-csrf-token': csrf, ...wrong } as Record<string, string>)
      t.equal(answer.statusCode, 401, JSON.stringify(Object.keys(wrong)))
      t.equal(answer.headers['set-cookie'], undefined, 'the cookie has done nothing wrong')
    }
  }
  t.equal((await get(app, { cookie, ...bearer(bob) }, '/browser')).statusCode, 401, 'where only a session may, too')
  t.equal((await get(app, { cookie }, '/browser')).statusCode, 200)
  t.match(
    (await get(app, { cookie, authorization: 'Basic YTpi' })).json(),
    { by: 'session' },
    'another scheme is not ours'
  )
})

t.test('what changes something needs a page of ours and its token', async t => {
  const app = await service(t, { sessions: { trustedOrigins: ['https://console.test'] } })
  const { cookie, csrf } = await signIn(app)
  const other = await signIn(app)
  const sites = {
    absent: true,
    'same-origin': true,
    none: true,
    'same-site': false,
    'cross-site': false,
    'same-origin, cross-site': false,
    '': false
  }
  const origins = {
    absent: true,
    [`https://${HOST}`]: true,
    [`http://${HOST}`]: true,
    'https://console.test': true,
    null: false,
    '': false,
    'https://evil.test': false,
    [`https://${HOST}:8443`]: false,
    [`https://${HOST}.evil.test`]: false,
    [`https://sub.${HOST}`]: false,
    [`https://${HOST}/`]: false,
    [`ftp://${HOST}`]: false,
    'https://console.test:444': false,
    'http://console.test': false,
    'HTTPS://CONSOLE.TEST': false
  }
  const tokens = {
    [csrf]: true,
    absent: false,
    '': false,
    [other.csrf]: false,
    [csrf.slice(0, -1)]: false,
    [`${csrf}, ${csrf}`]: false,
    [csrf.toLowerCase()]: false,
    ['é'.repeat(43)]: false,
    undefined: false
  }
  let refused = 0
  for (const method of [...SAFE, ...UNSAFE]) {
    for (const [site, siteIsFine] of Object.entries(sites)) {
      for (const [origin, originIsFine] of Object.entries(origins)) {
        for (const [token, tokenIsFine] of Object.entries(tokens)) {
          const headers: Record<string, string> = { host: HOST, cookie }
          if (site !== 'absent') headers['sec-fetch-site'] = site
          if (origin !== 'absent') headers['origin'] = origin
          if (token !== 'absent') headers['x-csrf-token'] = token
          const answer = await app.inject({ method, url: '/thing', headers } as InjectOptions)
          const fine = SAFE.includes(method as 'GET') || (siteIsFine && originIsFine && tokenIsFine)
          if (answer.statusCode === (fine ? 200 : 403)) {
            if (!fine) refused++
            continue
          }
          t.fail(`${method} from ${site} ${origin} with ${token}: ${answer.statusCode}`)
        }
      }
    }
  }
  t.equal(refused, 4 * (7 * 15 * 9 - 3 * 4))
  const answer = await app.inject({ method: 'POST', url: '/thing', headers: { host: HOST, cookie } })
  t.match(answer.json(), {
    status: 403,
    code: 'MARTY_AUTH_CSRF_INVALID',
    detail: /csrf_token of GET \/auth\/session in the header X-CSRF-Token/
  })
  t.notMatch(answer.body, csrf)
  t.equal(answer.headers['set-cookie'], undefined, 'the session goes on')
  t.equal(
    (
      await app.inject({
        method: 'POST',
        url: '/thing',
        headers: { host: '', cookie, origin: 'https://', 'x-csrf-token': csrf }
      })
    ).statusCode,
    403
  )
  t.equal(
    (await app.inject({ method: 'POST', url: '/thing', headers: bearer(other.id) })).statusCode,
    200,
    'a session in a header needs no token'
  )
})

t.test('whoever asks the guard without the request cannot show its method, and is refused', async t => {
  const app = await service(t)
  const { cookie, id, csrf } = await signIn(app)
  const request = { headers: { cookie }, method: 'GET' } as never
  for (const context of [{ address: null, requestId: '1' }, { address: null, requestId: '1', request: null }]) {
    t.throws(() => app.guard.identify(request, context), { code: 'MARTY_AUTH_CSRF_INVALID' })
  }
  t.match(await app.guard.identify(request, { address: null, requestId: '1', request }), { id: 'alice' })
  const post = (scheme: string, socket: object | undefined) =>
    ({
      method: 'POST',
      headers: { cookie, host: HOST, origin: `${scheme}://${HOST}`, 'x-csrf-token': csrf },
      socket
    }) as never
  for (const [scheme, socket, fine] of [
    ['https', { encrypted: true }, true],
    ['http', { encrypted: true }, false],
    ['http', {}, true],
    ['http', undefined, true]
  ] as const) {
    const one = post(scheme, socket)
    const answer = async () => await app.guard.identify(one, { address: null, requestId: '1', request: one })
    if (fine) t.match(await answer(), { id: 'alice' }, scheme)
    else {
      await t.rejects(answer(), { code: 'MARTY_AUTH_CSRF_INVALID' }, 'a page without TLS is not of an origin with it')
    }
  }
  await t.rejects(
    app.guard.authenticate(cookie, { address: null, requestId: '1' }),
    { code: 'MARTY_CORE_CREDENTIAL_INVALID' },
    'a cookie is no bare token'
  )
  t.match(await app.guard.authenticate(id, { address: null, requestId: '1' }), { id: 'alice' }, 'its id is one')
})

t.test('a page that was reloaded gets its token again', async t => {
  const app = await service(t, { sessions: { idleSeconds: 600 } })
  const { cookie, csrf, id } = await signIn(app)
  for (const headers of [{ cookie }, bearer(id)]) {
    const answer = await get(app, headers as Record<string, string>, '/auth/session')
    t.equal(answer.headers['cache-control'], 'no-store')
    t.strictSame({ ...answer.json(), expires_at: '' }, { csrf_token: csrf, expires_at: '', idle_seconds: 600 })
    t.ok(Date.parse(answer.json<{ expires_at: string }>().expires_at) > Date.now())
  }
  t.equal((await get(app, bearer(app.auth.tokens.issue({ subject: 'alice' }).token), '/auth/session')).statusCode, 401)
})

t.test('signing out ends this session, or all of them', async t => {
  const events: SecurityEvent[] = []
  const app = await service(t, {}, events)
  const [a, b, c, d] = [await signIn(app), await signIn(app), await signIn(app), await signIn(app, {}, 'bob')]
  const out = async (url: string, headers: Record<string, string>) =>
    await app.inject({ method: 'DELETE', url, headers: { host: HOST, ...headers } })
  t.equal((await out('/auth/session', { cookie: a.cookie })).statusCode, 403, 'not for another site')
  t.equal((await out('/auth/sessions', { cookie: a.cookie })).statusCode, 403)
  const here = await out('/auth/session', { cookie: a.cookie, 'x-csrf-token': a.csrf })
  t.equal(here.statusCode, 204)
  t.equal(here.headers['set-cookie'], CLEARED)
  t.equal((await out('/auth/session', { cookie: a.cookie, 'x-csrf-token': a.csrf })).statusCode, 401)
  t.ok(await app.auth.sessions!.get(b.id))
  const byHeader = await out('/auth/session', { ...bearer(b.id), cookie: c.cookie })
  t.equal(byHeader.statusCode, 204)
  t.equal(byHeader.headers['set-cookie'], undefined, 'the cookie is of another session')
  await signIn(app)
  const everywhere = await out('/auth/sessions', { cookie: c.cookie, 'x-csrf-token': c.csrf })
  t.strictSame(
    [everywhere.statusCode, everywhere.json(), everywhere.headers['set-cookie']],
    [200, { ended: 2 }, CLEARED]
  )
  t.strictSame(
    (await out('/auth/sessions', bearer(app.auth.tokens.issue({ subject: 'alice' }).token))).json(),
    { ended: 0 },
    'whoever it is may'
  )
  t.ok(await app.auth.sessions!.get(d.id), 'nobody else is signed out')
  t.match(
    events
      .filter(({ action }) => action.startsWith('session.revoke'))
      .map(({ action, principal }) => `${action} ${principal.id}`),
    ['session.revoke alice', 'session.revoke alice', 'session.revoke_all alice']
  )
})

t.test('an elevation gives the browser a new cookie', async t => {
  const app = await service(t, { sessions: { cookie: { name: '__Host-cam', sameSite: 'Lax' } } })
  const cookie = app.auth.sessionCookie!
  app.post('/elevate', { config: { security: { authenticate: ['session'] } } }, async (request, reply) => {
    const renewed = await app.auth.sessions!.renew(cookie.read(request.raw)!, {
      ...request.principal,
      roles: ['admin']
    })
    void reply.header('set-cookie', cookie.of(renewed))
    return { csrf_token: renewed.csrfToken }
  })
  const before = await signIn(app)
  t.ok(before.cookie.startsWith('__Host-cam='))
  const answer = await app.inject({
    method: 'POST',
    url: '/elevate',
    headers: { host: HOST, cookie: before.cookie, 'x-csrf-token': before.csrf }
  })
  t.match(answer.headers['set-cookie'], /^__Host-cam=ses_[\w-]{43}; Path=\/; HttpOnly; Secure; SameSite=Lax$/)
  t.not(answer.json<{ csrf_token: string }>().csrf_token, before.csrf)
  t.equal((await get(app, { cookie: before.cookie }, '/who')).statusCode, 401)
  t.match((await get(app, { cookie: `__Host-cam=${answer.cookies[0]!.value}` }, '/who')).json(), { roles: ['admin'] })
})

t.test('whatever the headers are, the answer is never a 5xx, and never somebody\'s', async t => {
  const app = await service(t)
  const { cookie, id } = await signIn(app)
  const piece = fc.oneof(
    fc.constantFrom(
      NAME,
      '=',
      ';',
      '; ',
      ',',
      '"',
      '%',
      '%00',
      '\t',
      ' ',
      '__proto__',
      'constructor',
      id.slice(0, 20),
      `${NAME}=`
    ),
    fc.string({ unit: fc.integer({ min: 32, max: 255 }).map(code => String.fromCharCode(code)) })
  )
  const header = fc.array(piece, { maxLength: 12 }).map(pieces => pieces.join(''))
  await fc.assert(
    fc.asyncProperty(
      header,
      fc.constantFrom(...SAFE, ...UNSAFE),
      header,
      header,
      async (text, method, origin, site) => {
        const answer = await app.inject({
          method,
          url: '/thing',
          headers: { cookie: text, origin, 'sec-fetch-site': site, 'x-csrf-token': origin }
        } as InjectOptions)
        return answer.statusCode === 401 || answer.statusCode === 403
      }), { numRuns: 1_000 })
  const huge = [
    'a=b; '.repeat(200_000),
    `${NAME}=${'A'.repeat(1_000_000)}`,
    `${NAME}; `.repeat(50_000),
    ';'.repeat(1_000_000),
    `${NAME}=a; `.repeat(50_000)
  ]
  for (const text of huge) {
    t.equal((await get(app, { cookie: text })).statusCode, 401)
    t.equal(
      (
        await app.inject({
          method: 'POST',
          url: '/auth/session',
          headers: { cookie: text, ...bearer(app.auth.tokens.issue({ subject: 'alice' }).token) }
        })
      ).statusCode,
      201
    )
  }
  t.equal((await get(app, { cookie: `${'a=b; '.repeat(1_000)}${cookie}` })).statusCode, 200)
})

import t from 'tap'
import { createSessionStore, type SessionOptions } from '@marty/auth'
import type { SecurityEvent } from '@marty/core'
import { bearer } from '@marty/testing/tokens'
import { build, principal } from './service.js'

t.test('a bad option is refused by name', async t => {
  for (const [field, options] of [
    ['sessions.maxPerPrincipal', { maxPerPrincipal: 1_001 }],
    ['sessions.cookie.name', { cookie: { name: 'session' } }],
    ['sessions.cookie.name', { cookie: { name: '__Host-' } }],
    ['sessions.cookie.name', { cookie: { name: '__Host-a;b' } }],
    ['sessions.cookie.name', { cookie: { name: 1 } }],
    ['sessions.cookie.sameSite', { cookie: { sameSite: 'None' } }],
    ['sessions.trustedOrigins', { trustedOrigins: 'https://a.test' }],
    ['sessions.trustedOrigins', { trustedOrigins: ['https://a.test/'] }],
    ['sessions.trustedOrigins', { trustedOrigins: ['null'] }],
    ['sessions.trustedOrigins', { trustedOrigins: [1] }],
    ['did you mean "idleSeconds"', { idleSecond: 1 }],
    ['known are idleSeconds', { x: 1 }]
  ] as Array<[string, unknown]>) {
    t.throws(
      () => createSessionStore('memory', options as SessionOptions),
      { code: 'MARTY_AUTH_OPT_INVALID', message: new RegExp(field.replaceAll('.', '\\.')) },
      field
    )
  }
})

t.test('a session brings its principal back over HTTP, and ends with the token it came from', async t => {
  const events: SecurityEvent[] = []
  const app = await build(t, {}, events)
  const token = app.auth.tokens.issue({ subject: 'alice', role: 'operator', ttlSeconds: 600 })
  const source = await app.guard.authenticate(token.token, { address: null, requestId: '1' })
  const session = await app.auth.sessions!.create(source)
  t.match(session.id, /^ses_[A-Za-z0-9_-]{43}$/)
  t.equal(session.expiresAt, token.expiresAt, 'never outlives the token')
  t.match((await app.inject({ url: '/who', headers: bearer(session.id) })).json(), {
    id: 'alice',
    roles: ['operator'],
    authenticatedBy: 'session',
    expiresAt: token.expiresAt
  })
  t.notMatch(
    JSON.stringify([await app.auth.sessions!.get(session.id), await app.auth.sessions!.list(), events]),
    session.id,
    'the id is kept and told nowhere'
  )
  const back = await app.guard.authenticate(session.id, { address: null, requestId: '2' })
  t.equal(await app.guard.isAlive(back), true)

  await app.auth.tokens.revoke(token.jti, token.expiresAt)
  t.equal(await app.guard.isAlive(back), false)
  t.equal((await app.inject({ url: '/who', headers: bearer(session.id) })).statusCode, 401)
  t.match(
    events.map(event => event.action),
    ['token.issue', 'authenticate.jwt', 'session.create', 'token.revoke', 'GET /who']
  )
})

t.test('every end of a session is told, and the principal that used it is no longer alive', async t => {
  const events: SecurityEvent[] = []
  const app = await build(t, {}, events)
  const sessions = app.auth.sessions!
  const source = await app.guard.authenticate(app.auth.tokens.issue({ subject: 'alice' }).token, {
    address: null,
    requestId: '1'
  })
  const ids = await Promise.all(
    [1, 2, 3, 4].map(async () => (await sessions.create(source, { address: '192.0.2.1' })).id)
  )
  const [first, second, third] = await Promise.all(
    ids.map(async id => await app.guard.authenticate(id, { address: null, requestId: '2' }))
  )
  events.length = 0

  t.equal(await sessions.revoke(ids[0]!), true)
  t.equal(await sessions.revoke(ids[0]!), false)
  t.equal(await sessions.revokeByKey(second!.session!), true)
  t.equal(await sessions.revokeByKey('all'), false)
  t.equal(await sessions.revokeAll({ kind: 'user', id: 'alice' }), 2)
  t.equal(await sessions.revokeAll({ kind: 'user', id: 'alice' }), 0)
  for (const one of [first, second, third]) t.equal(await app.guard.isAlive(one!), false)
  for (const id of ids) t.equal((await app.inject({ url: '/who', headers: bearer(id) })).statusCode, 401)
  t.match(events.filter(({ type }) => type === 'session'), [
    { action: 'session.revoke', object: first!.session!, principal: { id: 'alice' } },
    { action: 'session.revoke', object: second!.session! },
    { action: 'session.revoke_all', object: 'alice', principal: { id: 'alice', kind: 'user' } }
  ])
})

t.test('a new id is told, and a peek of a live connection keeps no session alive', async t => {
  const events: SecurityEvent[] = []
  const app = await build(t, {}, events)
  const source = await app.guard.authenticate(app.auth.tokens.issue({ subject: 'alice' }).token, { address: null, requestId: '1' })
  const { id } = await app.auth.sessions!.create(source)
  const back = await app.guard.authenticate(id, { address: null, requestId: '2' })
  const [before] = await app.auth.sessions!.list()
  t.equal(await app.guard.isAlive(back, true), true)
  t.strictSame(await app.auth.sessions!.list(), [before])
  const renewed = await app.auth.sessions!.renew(id, { ...back, roles: ['admin'] })
  t.match(events.at(-1), { action: 'session.renew', principal: { id: 'alice', roles: ['admin'] } })
  t.equal(await app.guard.isAlive(back), false)
  t.match((await app.inject({ url: '/who', headers: bearer(renewed.id) })).json(), {
    roles: ['admin'],
    authenticatedBy: 'session'
  })
})

t.test('a rule that asks for a session takes no token, and the other way round', async t => {
  const app = await build(t)
  app.get('/session', { config: { security: { authenticate: ['session'] } } }, async () => 'ok')
  app.get('/jwt', { config: { security: { authenticate: ['jwt'] } } }, async () => 'ok')
  const { token } = app.auth.tokens.issue({ subject: 'alice' })
  const { id } = await app.auth.sessions!.create(await app.guard.authenticate(token, { address: null, requestId: '1' }))
  const status = async (url: string, credential: string): Promise<number> =>
    (await app.inject({ url, headers: bearer(credential) })).statusCode
  t.equal(await status('/session', id), 200)
  t.equal(await status('/session', token), 401)
  t.equal(await status('/jwt', token), 200)
  t.equal(await status('/jwt', id), 401)
})

t.test('idle and absolute limits end a session; use postpones only the first', async t => {
  let now = 1_000_000
  const sessions = createSessionStore('memory', { idleSeconds: 10, absoluteSeconds: 25 }, () => now)
  const forever = { expiresAt: null }
  const idle = await sessions.create(principal('alice', forever))
  const used = await sessions.create(principal('bob', forever))
  const short = await sessions.create(principal('carol', { expiresAt: now + 5_000 }))
  const seen = await sessions.create(principal('dave', forever))
  const seenKey = (await sessions.list({ kind: 'user', id: 'dave' }))[0]!.key
  t.equal(used.expiresAt, now + 25_000)
  t.equal(short.expiresAt, now + 5_000, 'the credential it came from ends first')
  now += 4_999
  t.ok(sessions.get(short.id))
  now += 1
  t.equal(sessions.get(short.id), null)
  now += 4_999
  t.ok(sessions.get(used.id))
  t.ok(sessions.find(seenKey, true))
  now += 1
  t.equal(sessions.get(idle.id), null, 'nobody used it for ten seconds')
  t.equal(sessions.get(seen.id), null, 'looking at it is no use')
  now += 9_000
  t.ok(sessions.get(used.id))
  now += 5_999
  t.ok(sessions.get(used.id))
  now += 1
  t.equal(sessions.get(used.id), null, 'its absolute limit')
  t.strictSame(await sessions.list(), [])
})

t.test('memory is bounded: when full, only sessions that are over make room', async t => {
  let now = 1_000_000
  const sessions = createSessionStore('memory', { maxSessions: 2, idleSeconds: 10 }, () => now)
  const first = await sessions.create(principal('alice'))
  await sessions.create(principal('bob'))
  await t.rejects(sessions.create(principal('carol')), { code: 'MARTY_AUTH_CAPACITY_EXCEEDED', statusCode: 503 })
  t.ok(await sessions.renew(first.id, principal('alice')), 'a new id takes the place of the old one')
  now += 10_000
  await sessions.create(principal('carol'))
  t.equal((await sessions.list()).length, 1)
})

t.test('with sessions off there are none', async t => {
  const app = await build(t, { sessions: false, routes: true })
  const id = `ses_${'A'.repeat(43)}`
  t.equal(app.auth.sessions, null)
  t.equal(app.auth.sessionCookie, null)
  t.equal((await app.inject({ url: '/who', headers: bearer(id) })).statusCode, 401)
  t.equal(
    (await app.inject({ url: '/who', headers: { cookie: `__Host-session=${id}` } })).headers['set-cookie'],
    undefined
  )
  t.equal((await app.inject({ method: 'POST', url: '/auth/session' })).statusCode, 404)
})

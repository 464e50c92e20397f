import t from 'tap'
import { createSessionStore } from '@marty/auth'
import { ANONYMOUS, type Principal, type SecurityEvent } from '@marty/core'
import { bearer, build } from './service.js'

const alice = (expiresAt: number | null = Date.now() + 60_000): Principal => ({ ...ANONYMOUS, id: 'alice', kind: 'user', roles: ['viewer'], session: 'jti', authenticatedBy: 'jwt', expiresAt })

t.test('nobody, and an expired principal, get no session', async t => {
  const sessions = createSessionStore()
  t.throws(() => sessions.create(ANONYMOUS), { code: 'MARTY_AUTH_REQUEST_INVALID' })
  t.throws(() => sessions.create(alice(Date.now() - 1)), { code: 'MARTY_AUTH_REQUEST_INVALID' })
  t.equal(sessions.get('ses_x'), null)
  t.equal(sessions.revoke('ses_x'), false)
})

t.test('a session brings its principal back over HTTP, and ends with the token it came from', async t => {
  const events: SecurityEvent[] = []
  const app = await build(t, {}, events)
  const token = app.tokens.issue({ subject: 'alice', role: 'operator', ttlSeconds: 600 })
  const principal = await app.guard.authenticate(token.token, { address: null, requestId: '1' })
  const session = app.sessions?.create(principal)
  if (session === undefined) throw new Error('sessions are on')
  t.match(session.id, /^ses_[A-Za-z0-9_-]{43}$/)
  t.equal(session.expiresAt, token.expiresAt, 'never outlives the token')
  t.match((await app.inject({ url: '/who', headers: bearer(session.id) })).json(), { id: 'alice', roles: ['operator'], authenticatedBy: 'session', expiresAt: token.expiresAt })
  t.notMatch(JSON.stringify([app.sessions?.get(session.id), events]), session.id, 'the id is kept and told nowhere')
  const back = await app.guard.authenticate(session.id, { address: null, requestId: '2' })
  t.equal(await app.guard.isAlive(back), true)

  await app.tokens.revoke(token.jti, token.expiresAt)
  t.equal(await app.guard.isAlive(back), false)
  t.equal((await app.inject({ url: '/who', headers: bearer(session.id) })).statusCode, 401)
  t.match(events.map(event => event.action), ['token.issue', 'session.create', 'token.revoke'])
})

t.test('a revoked session is refused, and the principal that used it is no longer alive', async t => {
  const events: SecurityEvent[] = []
  const app = await build(t, {}, events)
  const principal = await app.guard.authenticate(app.tokens.issue({ subject: 'alice' }).token, { address: null, requestId: '1' })
  const { id } = app.sessions!.create(principal)
  const back = await app.guard.authenticate(id, { address: null, requestId: '2' })
  t.equal(app.sessions!.revoke(id), true)
  t.equal(app.sessions!.revoke(id), false)
  t.equal(await app.guard.isAlive(back), false)
  t.equal((await app.inject({ url: '/who', headers: bearer(id) })).statusCode, 401)
  t.ok(events.some(event => event.action === 'session.revoke' && event.principal.id === 'alice'))
})

t.test('a rule that asks for a session takes no token, and the other way round', async t => {
  const app = await build(t)
  app.get('/session', { config: { security: { authenticate: ['session'] } } }, async () => 'ok')
  app.get('/jwt', { config: { security: { authenticate: ['jwt'] } } }, async () => 'ok')
  const { token } = app.tokens.issue({ subject: 'alice' })
  const { id } = app.sessions!.create(await app.guard.authenticate(token, { address: null, requestId: '1' }))
  const status = async (url: string, credential: string): Promise<number> => (await app.inject({ url, headers: bearer(credential) })).statusCode
  t.equal(await status('/session', id), 200)
  t.equal(await status('/session', token), 401)
  t.equal(await status('/jwt', token), 200)
  t.equal(await status('/jwt', id), 401)
})

t.test('idle and absolute limits end a session; use postpones only the first', async t => {
  let now = 1_000_000
  const sessions = createSessionStore({ idleSeconds: 10, absoluteSeconds: 25 }, () => now)
  const idle = sessions.create(alice(null))
  const used = sessions.create({ ...alice(null), id: 'bob' })
  const short = sessions.create({ ...alice(now + 5_000), id: 'carol' })
  t.equal(used.expiresAt, now + 25_000)
  t.equal(short.expiresAt, now + 5_000, 'the credential it came from ends first')
  now += 4_999
  t.ok(sessions.get(short.id))
  now += 1
  t.equal(sessions.get(short.id), null)
  now += 4_999
  t.ok(sessions.get(used.id))
  now += 1
  t.equal(sessions.get(idle.id), null, 'nobody used it for ten seconds')
  now += 9_000
  t.ok(sessions.get(used.id))
  now += 5_999
  t.ok(sessions.get(used.id))
  now += 1
  t.equal(sessions.get(used.id), null, 'its absolute limit')
  t.equal(sessions.size, 0)
})

t.test('sessions are bounded: per principal the least used gives way, in all none is made', async t => {
  let now = 1_000_000
  const sessions = createSessionStore({ maxPerPrincipal: 2, maxSessions: 3, idleSeconds: 10 }, () => now)
  const first = sessions.create(alice(null))
  now++
  const second = sessions.create(alice(null))
  now++
  t.ok(sessions.get(first.id))
  const third = sessions.create(alice(null))
  t.strictSame([first, second, third].map(({ id }) => sessions.get(id) !== null), [true, false, true])
  sessions.create({ ...alice(null), id: 'bob' })
  t.throws(() => sessions.create({ ...alice(null), id: 'carol' }), { code: 'MARTY_AUTH_CAPACITY_EXCEEDED', statusCode: 503 })
  now += 10_000
  t.ok(sessions.create({ ...alice(null), id: 'carol' }), 'those that are over make room')
  t.equal(sessions.size, 1)
})

t.test('with sessions off there are none', async t => {
  const app = await build(t, { sessions: false })
  t.equal(app.sessions, null)
  t.equal((await app.inject({ url: '/who', headers: bearer(`ses_${'A'.repeat(43)}`) })).statusCode, 401)
})

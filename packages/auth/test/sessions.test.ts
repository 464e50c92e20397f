import t from 'tap'
import { createSessionStore } from '@marty/auth'
import { ANONYMOUS, type Principal, type SecurityEvent } from '@marty/core'
import { bearer, build } from './service.js'

const alice = (expiresAt: number | null = Date.now() + 60_000): Principal => ({ ...ANONYMOUS, id: 'alice', kind: 'user', roles: ['viewer'], session: 'jti', authenticatedBy: 'jwt', expiresAt })

async function until (condition: () => boolean): Promise<void> {
  const end = Date.now() + 10_000
  while (!condition()) {
    if (Date.now() > end) throw new Error('waited too long')
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

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

  app.tokens.revoke(token.jti, token.expiresAt)
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
  const sessions = createSessionStore({ idleSeconds: 1, absoluteSeconds: 2 })
  const idle = sessions.create(alice())
  const used = sessions.create({ ...alice(), id: 'bob' })
  const begun = Date.now()
  t.ok(used.expiresAt <= begun + 2_000)
  await until(() => {
    const alive = sessions.get(used.id) !== null
    if (alive && Date.now() - begun < 1_000) return false
    return true
  })
  await until(() => { sessions.get(used.id); return Date.now() - begun > 1_100 })
  t.equal(sessions.get(idle.id), null, 'nobody used it')
  await until(() => sessions.get(used.id) === null)
  t.ok(Date.now() >= used.expiresAt, 'the other lived until its absolute limit')
  t.equal(sessions.size, 0)
})

t.test('sessions are bounded: per principal the least used gives way, in all none is made', async t => {
  const sessions = createSessionStore({ maxPerPrincipal: 2, maxSessions: 3 })
  const first = sessions.create(alice())
  const second = sessions.create(alice())
  await until(() => Date.now() > 0 && sessions.get(first.id) !== null)
  const third = sessions.create(alice())
  t.equal([first, second, third].filter(({ id }) => sessions.get(id) !== null).length, 2)
  t.ok(sessions.get(third.id))
  sessions.create({ ...alice(), id: 'bob' })
  t.throws(() => sessions.create({ ...alice(), id: 'carol' }), { code: 'MARTY_AUTH_CAPACITY_EXCEEDED', statusCode: 503 })
  t.equal(sessions.size, 3)
})

t.test('with sessions off there are none', async t => {
  const app = await build(t, { sessions: false })
  t.equal(app.sessions, null)
  t.equal((await app.inject({ url: '/who', headers: bearer(`ses_${'A'.repeat(43)}`) })).statusCode, 401)
})

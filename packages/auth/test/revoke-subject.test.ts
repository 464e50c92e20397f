import t, { type Test } from 'tap'
import type { FastifyInstance } from 'fastify'
import { createMemoryApiKeyStore, type AuthOptions } from '@marty/auth'
import { until } from '@marty/testing'
import { bearer, PEPPER, secretFor } from '@marty/testing/tokens'
import { build, principal } from './service.js'
import { insist, storeOf, testRedis } from './state-store.js'

const redis = await testRedis(t)
const connection = await redis.connect({ commandTimeoutMs: 10_000 })

async function service (t: Test, options: Partial<AuthOptions> = {}): Promise<FastifyInstance> {
  const app = await build(t, {
    routes: true,
    refresh: { secret: secretFor('refresh tokens'), clientCredentials: true },
    apiKeys: {
      store: createMemoryApiKeyStore(),
      prefix: 'cam',
      environment: 'test',
      pepper: PEPPER,
      hash: 'hmac-sha256'
    },
    ...options
  })
  await app.ready()
  return app
}

/** A principal of the application's own making, as after a password: nothing but the session says that it signed in. */
const byPassword = (id: string, kind: 'user' | 'service' | 'key' = 'user') =>
  principal(id, { kind, authenticatedBy: null, session: null, expiresAt: null })
const statusOf = async (app: FastifyInstance, credential: string): Promise<number> =>
  (await app.inject({ url: '/who', headers: bearer(credential) })).statusCode

for (const kind of ['memory', 'redis'] as const) {
  t.test(`${kind}: revokeSubject ends all sessions, tokens and refresh tokens of that subject, and no others`, async t => {
    const app = await service(t, kind === 'memory' ? {} : { store: storeOf(connection) })
    const { key, keyId } = await app.auth.apiKeys!.create({ name: 'one', roles: ['viewer'], expiresInSeconds: 3_600 })
    const signIn = (await app.inject({ method: 'POST', url: '/auth/token', headers: { 'x-api-key': key } })).json()
    const token = app.auth.tokens.issue({ subject: keyId }).token
    const fromToken = await app.guard.authenticate(token, { address: null, requestId: '1' })
    const fromKey = await app.guard.authenticate(key, { address: null, requestId: '1' })
    const sources = [byPassword(keyId), byPassword(keyId, 'service'), byPassword(keyId, 'key'), fromToken, fromKey]
    const sessions = await Promise.all(sources.map(async source => (await app.auth.sessions!.create(source)).id))
    const renewed = (await app.auth.sessions!.renew(sessions.shift()!, byPassword(keyId))).id
    const others = [
      (await app.auth.sessions!.create(byPassword('bob'))).id,
      app.auth.tokens.issue({ subject: 'bob' }).token
    ]
    const mine = [...sessions, renewed, token, signIn.access_token]
    for (const credential of [...mine, ...others]) t.equal(await statusOf(app, credential), 200)
    const live = await Promise.all(
      mine.map(async credential => await app.guard.authenticate(credential, { address: null, requestId: '1' }))
    )

    await app.auth.tokens.revokeSubject(keyId)

    for (const credential of mine) t.equal(await statusOf(app, credential), 401)
    for (const one of live) t.equal(await app.guard.isAlive(one, true), false, 'live connections')
    t.equal(
      (await app.inject({ method: 'POST', url: '/auth/refresh', payload: { refresh_token: signIn.refresh_token } }))
        .statusCode,
      401
    )
    t.equal((await app.auth.sessions!.list()).length, 1, 'they are not listed any more')
    for (const id of sessions) t.equal(await app.auth.sessions!.get(id), null)
    for (const credential of others) t.equal(await statusOf(app, credential), 200)
    const again = await app.auth.sessions!.create(byPassword(keyId))
    t.equal(await statusOf(app, again.id), 200, 'signed in again, in the same second')
    t.equal(await statusOf(app, app.auth.tokens.issue({ subject: keyId }).token), 200)
  })

  t.test(`${kind}: signing out everywhere ends sessions of the application's making too`, async t => {
    const app = await service(t, kind === 'memory' ? {} : { store: storeOf(connection) })
    const session = await app.auth.sessions!.create(byPassword('alice', 'service'))
    const { token } = app.auth.tokens.issue({ subject: 'alice' })
    await app.inject({ method: 'POST', url: '/auth/logout', headers: bearer(token), payload: { everywhere: true } })
    t.equal(await statusOf(app, session.id), 401)
  })

  t.test(`${kind}: without sessions there is nothing but tokens to end`, async t => {
    const app = await service(t, { sessions: false, ...(kind === 'memory' ? {} : { store: storeOf(connection) }) })
    const { token } = app.auth.tokens.issue({ subject: 'alice' })
    await app.auth.tokens.revokeSubject('alice')
    t.equal(await statusOf(app, token), 401)
  })
}

t.test('another replica knows within moments, on its live connections too, and also what a version before has kept', async t => {
  const store = storeOf(connection)
  const [one, two] = [
    await service(t, { store }),
    await service(t, { store: { ...store, redis: (await redis.connect({ commandTimeoutMs: 10_000 })).client } })
  ]
  const { id } = await one.auth.sessions!.create(byPassword('alice'))
  const old = await one.auth.sessions!.create(byPassword('alice'))
  for (const { key } of await one.auth.sessions!.list()) {
    const name = `{${store.prefix}}:session:${key}`
    const { signedInAt, ...kept } = JSON.parse((await connection.client.hget(name, 'kept'))!)
    t.type(signedInAt, 'number')
    if ((await one.auth.sessions!.get(old.id))!.session === key) {
      await connection.client.hset(name, 'kept', JSON.stringify(kept))
    }
  }
  const live = await Promise.all(
    [id, old.id].map(async session => await two.guard.authenticate(session, { address: null, requestId: '1' }))
  )
  for (const session of [id, old.id]) t.equal(await statusOf(two, session), 200)

  await one.auth.tokens.revokeSubject('alice')

  for (const session of [id, old.id]) {
    await until(async () => (await statusOf(two, session)) === 401, 'the other replica to know')
  }
  for (const principal of live) {
    await until(async () => !(await two.guard.isAlive(principal, true)), 'its live connection to know')
  }
})

t.test('what could not be shared while Redis was away ends sessions here at once, and everywhere later', async t => {
  const store = storeOf(connection)
  const app = await service(t, { store: { ...store, redis: (await redis.connect()).client } })
  const { id } = await insist(async () => await app.auth.sessions!.create(byPassword('alice')))
  const live = await insist(async () => await app.guard.authenticate(id, { address: null, requestId: '1' }))
  const other = await service(t, { store })
  redis.server.child.kill('SIGSTOP')
  try {
    await t.rejects(app.auth.tokens.revokeSubject('alice'), { code: 'MARTY_AUTH_STORE_UNAVAILABLE' })
  } finally {
    redis.server.child.kill('SIGCONT')
  }
  t.equal(await insist(async () => await app.guard.isAlive(live, true)), false)
  await until(async () => await statusOf(other, id) === 401, 'the other replica to know')
})

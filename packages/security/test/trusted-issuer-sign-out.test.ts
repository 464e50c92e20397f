import t, { type Test } from 'tap'
import Fastify, { type FastifyInstance } from 'fastify'
import { auth, type AuthOptions } from '@marty/auth'
import { setProblemHandlers, useGuard, type SecurityEvent } from '@marty/core'
import { jsonRpc } from '@marty/json-rpc'
import { openRedis } from '@marty/redis'
import { freePort, startRedis, until } from '@marty/testing'
import { FOREIGN, foreign, provide } from '@marty/testing/provider'
import { bearer, now, secretFor, TOKENS } from '@marty/testing/tokens'
import { connectRpc } from './rpc-client.js'

// For a machine that hangs; nothing here is about speed.
t.setTimeout(600_000)

const OTHER = 'https://other.example'
const server = await startRedis(await freePort())
t.teardown(() => server.stop())
const redis = openRedis({ url: `redis://127.0.0.1:${server.port}`, commandTimeoutMs: 5_000 })
t.teardown(() => redis.close())
await redis.ready(30_000)
let prefixes = 0

/** A service on a real socket that trusts two issuers, and a call `who` over RPC and HTTP. */
async function listen (
  t: Test,
  store: AuthOptions['store'],
  issuers: AuthOptions['trustedIssuers'],
  events: SecurityEvent[] = []
): Promise<FastifyInstance> {
  const app = Fastify() as unknown as FastifyInstance
  t.teardown(() => app.close())
  useGuard(app, { strict: true }).addSink(event => {
    events.push(event)
  })
  setProblemHandlers(app)
  await app.register(auth, {
    ...TOKENS,
    ...(store === undefined ? {} : { store }),
    ...(issuers === undefined ? {} : { trustedIssuers: issuers }),
    routes: true,
    refresh: { secret: secretFor('refresh'), graceSeconds: 0 }
  })
  await app.register(jsonRpc)
  app.rpc.method({ name: 'who', security: { authenticate: true }, handler: (_params, { principal }) => principal.id })
  app.get('/who', { config: { security: { authenticate: true } } }, async request => request.principal.id)
  await app.listen({ host: '127.0.0.1', port: 0 })
  return app
}

const post = async (app: FastifyInstance, url: string, payload: object, headers: Record<string, string> = {}) =>
  await app.inject({ method: 'POST', url, payload, headers })
const statusOf = async (app: FastifyInstance, token: string): Promise<number> =>
  (await app.inject({ url: '/who', headers: bearer(token) })).statusCode

for (const place of ['memory', 'Redis'] as const) {
  const storeOf = (): AuthOptions['store'] =>
    place === 'memory' ? 'memory' : { redis: redis.client, prefix: `sign-out-${++prefixes}` }

  for (const route of ['/auth/logout', '/auth/revoke'] as const) {
    t.test(
      `${place}: ${route} with a trusted issuer's token ends it, its sockets and its sessions, and nothing of the same name`,
      async t => {
        const issuers = [(await provide(t)).options, { ...(await provide(t)).options, issuer: OTHER }]
        const store = storeOf()
        const app = await listen(t, store, issuers)
        const replica = place === 'memory' ? app : await listen(t, store, issuers)

        // A local family and token, and tokens of both issuers that call themselves and their sessions the same.
        const local = await localSignIn(app, issuers)
        const same = { jti: local.jti, sid: local.sid, sub: 'alice' }
        const token = foreign('ES256', same)
        const others = {
          local: local.token,
          'of the other issuer': foreign('ES256', { ...same, iss: OTHER }),
          'of another subject': foreign('ES256', { ...same, jti: 'j2', sub: 'bob' })
        }
        const socket = await connectRpc(t, replica)
        await socket.call('authenticate', { auth_token: token })
        t.equal(await socket.call('who'), `${FOREIGN}|alice`)
        const session = (await post(app, '/auth/session', {}, bearer(token))).cookies[0]!.value
        const otherSockets = await Promise.all(
          Object.values(others).map(async other => {
            const client = await connectRpc(t, replica)
            await client.call('authenticate', { auth_token: other })
            return client
          })
        )
        t.strictSame([await statusOf(app, token), await statusOf(app, session)], [200, 200])

        const ended =
          route === '/auth/logout' ? await post(app, route, {}, bearer(token)) : await post(app, route, { token })
        t.equal(ended.statusCode, route === '/auth/logout' ? 204 : 200)
        t.equal(await statusOf(app, token), 401)
        t.equal(await statusOf(app, session), 401, 'the session that it began')
        await until(async () => (await socket.call('who')) === -32001, "the socket to be nobody's")
        await until(async () => (await statusOf(replica, token)) === 401, 'the other replica to know')
        for (const [what, other] of Object.entries(others)) t.equal(await statusOf(app, other), 200, what)
        for (const client of otherSockets) t.not(await client.call('who'), -32001)
        const renewed = await post(app, '/auth/refresh', { refresh_token: local.refreshToken })
        t.equal(renewed.statusCode, 200, 'the local family of that name goes on')
      }
    )
  }

  t.test(`${place}: what was given in exchange ends with the token it was given for`, async t => {
    const app = await listen(t, storeOf(), [(await provide(t)).options])
    const token = foreign('ES256')
    const given = (await post(app, '/auth/token', { assertion: token })).json<{
      access_token: string
      refresh_token: string
    }>()
    const renewed = (await post(app, '/auth/refresh', { refresh_token: given.refresh_token })).json<{
      access_token: string
      refresh_token: string
    }>()
    const socket = await connectRpc(t, app, bearer(renewed.access_token))
    t.equal(await socket.call('who'), `${FOREIGN}|alice`)
    t.equal((await post(app, '/auth/revoke', { token })).statusCode, 200)
    t.strictSame([await statusOf(app, given.access_token), await statusOf(app, renewed.access_token)], [401, 401])
    await until(async () => await socket.call('who') === -32001, 'the socket to be nobody\'s')
    t.equal((await post(app, '/auth/refresh', { refresh_token: renewed.refresh_token })).statusCode, 401)
  })

  t.test(
    `${place}: signing out ends the tokens of the same session at the issuer up to now, and a later one is welcome`,
    async t => {
      const issuers = [(await provide(t)).options, { ...(await provide(t)).options, issuer: OTHER }]
      const app = await listen(t, storeOf(), issuers)
      const sid = 'session at the issuer'
      const token = foreign('ES256', { sid })
      // Its clock may be ahead of ours.
      const ahead = foreign('ES256', { sid, iat: now() + 20, exp: now() + 300 })
      const sibling = foreign('ES256', { sid })
      const others = [
        foreign('ES256', { sid, iss: OTHER }),
        foreign('ES256', { sid: 'another' }),
        foreign('ES256', { sid, sub: 'bob' }),
        foreign('ES256')
      ]
      t.equal((await post(app, '/auth/logout', {}, bearer(token))).statusCode, 204)
      t.strictSame([await statusOf(app, token), await statusOf(app, sibling)], [401, 401])
      for (const other of others) t.equal(await statusOf(app, other), 200)
      const later = now() + 2
      await until(() => now() > later, 'the second to be over')
      t.equal(await statusOf(app, foreign('ES256', { sid })), 200, 'signed in again')
      t.equal((await post(app, '/auth/logout', {}, bearer(ahead))).statusCode, 204)
      t.equal(
        await statusOf(app, foreign('ES256', { sid, iat: now() + 15, exp: now() + 300 })),
        401,
        'issued before the one that signed out, by the same clock'
      )
    }
  )
}

t.test('revoking is told of under the name that the caller has here; what is no good token tells nothing', async t => {
  const events: SecurityEvent[] = []
  const provider = await provide(t)
  const app = await listen(t, 'memory', [provider.options], events)
  const token = foreign('ES256', { jti: 'j1' })
  for (const text of [
    foreign('ES256', { exp: now() - 1, iat: now() - 60 }),
    foreign('ES256', { iss: 'https://nobody.example' }),
    token.slice(0, -3)
  ]) {
    const answer = await post(app, '/auth/revoke', { token: text })
    t.strictSame([answer.statusCode, answer.body], [200, ''])
  }
  t.strictSame(events.filter(({ action }) => action === 'token.revoke'), [])
  await post(app, '/auth/revoke', { token })
  await post(app, '/auth/revoke', { token })
  t.match(
    events.filter(({ action }) => action === 'token.revoke'),
    [{ type: 'credential', object: `${FOREIGN}|j1`, principal: { id: `${FOREIGN}|alice`, kind: 'user' } }]
  )
  t.equal(events.filter(({ action }) => action === 'token.revoke').length, 1, 'once')
})

t.test('signing out and renewing at the same time leave nothing alive', async t => {
  const app = await listen(t, { redis: redis.client, prefix: `sign-out-${++prefixes}` }, [(await provide(t)).options])
  for (let round = 0; round < 10; round++) {
    const token = foreign('ES256')
    const given = (await post(app, '/auth/token', { assertion: token })).json<{ refresh_token: string }>()
    const [renewed, exchanged] = await Promise.all([
      post(app, '/auth/refresh', { refresh_token: given.refresh_token }),
      post(app, '/auth/token', { assertion: token }),
      post(app, '/auth/logout', {}, bearer(token))
    ])
    for (const answer of [renewed, exchanged]) {
      if (answer.statusCode !== 200) continue
      const { access_token: access, refresh_token: refresh } = answer.json<{
        access_token: string
        refresh_token: string
      }>()
      t.equal(await statusOf(app, access), 401)
      t.equal((await post(app, '/auth/refresh', { refresh_token: refresh })).statusCode, 401)
    }
  }
})

/** Tokens of ours for alice, in a family. */
async function localSignIn (
  app: FastifyInstance,
  issuers: NonNullable<AuthOptions['trustedIssuers']>
): Promise<{ token: string; jti: string; sid: string; refreshToken: string }> {
  const assertion = foreign('ES256', { iss: issuers[1]!.issuer, sub: 'local alice', jti: 'for the local family' })
  const { access_token: token, refresh_token: refreshToken } = (await post(app, '/auth/token', { assertion })).json<{
    access_token: string
    refresh_token: string
  }>()
  const { jti, sid } = app.auth.tokens.verify(token)
  return { token, jti, sid: sid!, refreshToken }
}

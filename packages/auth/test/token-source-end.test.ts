import t, { type Test } from 'tap'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { auth, createMemoryApiKeyStore, type AuthOptions } from '@marty/auth'
import { problemErrorHandler, useGuard } from '@marty/core'
import { createAuthority } from '@marty/testing/certificates'
import { foreign, provide } from '@marty/testing/provider'
import { now, PEPPER, secretFor, TOKENS } from '@marty/testing/tokens'
import { build } from './service.js'
import { storeOf, testRedis } from './state-store.js'

// For a machine that hangs; nothing here is about speed.
t.setTimeout(600_000)

const REFRESH = { secret: secretFor('refresh'), graceSeconds: 0, clientCredentials: true }
const RECORDER = 'spiffe://prod/ns/cams/sa/recorder'
const redis = await testRedis(t)
const connection = await redis.connect({ commandTimeoutMs: 5_000 })

interface Answer {
  readonly access_token: string
  readonly expires_in: number
  readonly refresh_token: string
  readonly refresh_expires_in: number
}
type Post = (
  url: string,
  body: object,
  headers?: Record<string, string>
) => Promise<{ status: number; body: Answer & { code?: string } }>

const postTo = (app: FastifyInstance): Post => async (url, payload, headers = {}) => {
  const answer = await app.inject({ method: 'POST', url, payload, headers })
  return { status: answer.statusCode, body: answer.json() }
}

/** No token outlives the end, in seconds since the epoch, and what is said of its life is true. */
function endsBy (
  t: Test,
  app: FastifyInstance,
  { access_token: token, expires_in: seconds, refresh_expires_in: refreshSeconds }: Answer,
  end: number,
  what: string
): void {
  const { iat, exp } = app.auth.tokens.verify(token)
  t.ok(exp <= end, `${what}: ${exp - end} s beyond its source`)
  t.equal(seconds, exp - iat, `${what}: expires_in`)
  t.ok(seconds > 0)
  t.ok(now() + refreshSeconds <= end, `${what}: the family ends ${now() + refreshSeconds - end} s beyond its source`)
}

async function untilSecond (second: number): Promise<void> {
  while (Date.now() < second * 1000) await new Promise(resolve => setTimeout(resolve, 20))
}

for (const place of ['memory', 'Redis'] as const) {
  const newStore = () => place === 'memory' ? undefined : storeOf(connection)
  const storeHere = (store = newStore()): Pick<AuthOptions, 'store'> => store === undefined ? {} : { store }

  t.test(`${place}: by an assertion`, async t => {
    const provider = await provide(t)
    const app = await build(t, { routes: true, refresh: REFRESH, trustedIssuers: [provider.options], ...storeHere() })
    const post = postTo(app)
    const end = now() + 40
    const first = await post('/auth/token', { assertion: foreign('ES256', { exp: end }) })
    endsBy(t, app, first.body, end, 'exchanged')
    const second = await post('/auth/refresh', { refresh_token: first.body.refresh_token })
    endsBy(t, app, second.body, end, 'renewed')
    const third = await post('/auth/token', { grant_type: 'refresh_token', refresh_token: second.body.refresh_token })
    endsBy(t, app, third.body, end, 'renewed again')
  })

  t.test(`${place}: close to the end, and after it`, async t => {
    const provider = await provide(t)
    const store = newStore()
    const app = await build(t, {
      routes: true,
      refresh: REFRESH,
      trustedIssuers: [provider.options],
      ...storeHere(store)
    })
    const post = postTo(app)
    const end = now() + 4
    const assertion = foreign('ES256', { exp: end, iat: end - 60 })
    let last = (await post('/auth/token', { assertion })).body
    for (let renewals = 0; ; renewals++) {
      const { status, body } = await post('/auth/refresh', { refresh_token: last.refresh_token })
      if (status !== 200) {
        t.match([status, body.code], [401, 'MARTY_CORE_CREDENTIAL_INVALID'], `after ${renewals} renewals`)
        break
      }
      const { exp, iat } = app.auth.tokens.verify(body.access_token)
      if (exp > end || body.expires_in !== exp - iat) {
        t.fail(`renewed to ${exp - end} s beyond the end, said ${body.expires_in}`)
      }
      last = body
      await new Promise(resolve => setTimeout(resolve, 20))
    }
    t.ok(Date.now() >= (end - 1) * 1000, 'not refused early')
    await untilSecond(end)
    t.equal((await post('/auth/refresh', { refresh_token: last.refresh_token })).status, 401)
    t.equal((await post('/auth/token', { assertion })).status, 401)
    t.equal(
      (await app.inject({ url: '/who', headers: { authorization: `Bearer ${last.access_token}` } })).statusCode,
      401
    )
    if (store !== undefined) {
      t.strictSame(await connection.client.keys(`${store.prefix}:refresh:*`), [], 'nothing is kept of the family')
    }
  })

  t.test(`${place}: by an API key, and by a secret of it that a rotation ends`, async t => {
    const app = await build(t, {
      routes: true,
      refresh: REFRESH,
      apiKeys: { store: createMemoryApiKeyStore(), prefix: 'cam', environment: 'test', pepper: PEPPER, bcryptCost: 8 },
      ...storeHere()
    })
    const post = postTo(app)
    const short = await app.auth.apiKeys!.create({ name: 'k', roles: [], expiresInSeconds: 50 })
    const end = Math.floor(short.expiresAt / 1000)
    const first = await post('/auth/token', {}, { 'x-api-key': short.key })
    endsBy(t, app, first.body, end, 'exchanged')
    endsBy(t, app, (await post('/auth/refresh', { refresh_token: first.body.refresh_token })).body, end, 'renewed')

    const long = await app.auth.apiKeys!.create({ name: 'k', roles: [], expiresInSeconds: 86_400 })
    const before = await post('/auth/token', {}, { 'x-api-key': long.key })
    t.equal(before.body.expires_in, 900)
    await app.auth.apiKeys!.rotate(long.keyId, { overlapSeconds: 60 })
    const rotatedEnd = now() + 60
    const after = await post('/auth/refresh', { refresh_token: before.body.refresh_token })
    t.ok(
      app.auth.tokens.verify(after.body.access_token).exp <= rotatedEnd,
      'the old secret ends sooner than it said when it signed in'
    )
    t.ok(after.body.expires_in <= 60)
    t.ok(after.body.refresh_expires_in <= 60)
  })

  t.test(`${place}: by a client certificate`, async t => {
    const authority = createAuthority('Test CA')
    t.teardown(() => { authority.remove() })
    const serverCertificate = authority.issue(['subjectAltName = DNS:localhost', 'extendedKeyUsage = serverAuth'])
    const end = now() + 60
    const client = authority.issue([`subjectAltName = URI:${RECORDER}`, 'extendedKeyUsage = clientAuth'], {
      to: end * 1000
    })
    const app = Fastify({
      // marty-security-audit-ignore tls-unverified -- a server: who has no good certificate is let in as nobody
      https: { ...serverCertificate, ca: authority.cert, requestCert: true, rejectUnauthorized: false }
    }) as unknown as FastifyInstance
    t.teardown(() => app.close())
    useGuard(app, { strict: true })
    app.setErrorHandler(problemErrorHandler)
    await app.register(auth, {
      ...TOKENS,
      routes: true,
      refresh: REFRESH,
      mtls: { allow: { [RECORDER]: { roles: [] } } },
      ...storeHere()
    })
    await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = app.server.address() as AddressInfo
    const outgoing = httpsRequest({
      host: '127.0.0.1',
      servername: 'localhost',
      port,
      path: '/auth/token',
      method: 'POST',
      agent: false,
      ca: authority.cert,
      ...client
    })
    const [response] = await once(outgoing.end(), 'response') as [IncomingMessage]
    let text = ''
    for await (const chunk of response) text += String(chunk)
    t.equal(response.statusCode, 200)
    const first = JSON.parse(text) as Answer
    endsBy(t, app, first, end, 'exchanged')
    endsBy(t, app, (await postTo(app)('/auth/refresh', { refresh_token: first.refresh_token })).body, end, 'renewed')
  })
}

t.test('a token is issued for no longer than it is asked to be', async t => {
  const app = await build(t)
  const end = now() + 30
  const issued = app.auth.tokens.issue({ subject: 'alice', notAfter: end * 1000 + 999 })
  t.equal(app.auth.tokens.verify(issued.token).exp, end, 'the end of that second')
  t.equal(issued.expiresAt, end * 1000)
  t.ok(issued.ttlSeconds <= 30 && issued.ttlSeconds >= 29)
  t.equal(app.auth.tokens.issue({ subject: 'alice', ttlSeconds: 5, notAfter: Date.now() + 3_600_000 }).ttlSeconds, 5)
  for (const over of [Date.now() - 5_000, Date.now()]) {
    t.throws(() => app.auth.tokens.issue({ subject: 'alice', notAfter: over }), {
      code: 'MARTY_CORE_CREDENTIAL_INVALID',
      reason: 'source has ended'
    })
  }
  for (const bad of [NaN, end, '2030', null]) {
    t.throws(() => app.auth.tokens.issue({ subject: 'alice', notAfter: bad as number }), {
      code: 'MARTY_AUTH_REQUEST_INVALID',
      message: /"notAfter" must be a time in milliseconds/
    })
  }
  for (const bad of [5, 'x'.repeat(1025), null]) {
    t.throws(() => app.auth.tokens.issue({ subject: 'alice', sourceJti: bad as string }), {
      code: 'MARTY_AUTH_REQUEST_INVALID',
      message: /"sourceJti"/
    })
  }
})

t.test('with what cannot be asked any longer, nothing is renewed', async t => {
  const store = createMemoryApiKeyStore()
  const apiKeys = { store, prefix: 'cam', environment: 'test', pepper: PEPPER, bcryptCost: 8 } as const
  const app = await build(t, { routes: true, refresh: REFRESH, apiKeys })
  const { key, keyId } = await app.auth.apiKeys!.create({ name: 'k', roles: [], expiresInSeconds: 3_600 })
  const principal = await app.auth.apiKeys!.verify(key)
  t.equal(await app.auth.apiKeys!.endsAt(principal), principal.expiresAt)
  const first = await postTo(app)('/auth/token', {}, { 'x-api-key': key })
  await store.delete(keyId)
  t.equal(await app.auth.apiKeys!.endsAt(principal), null)
  t.equal(await app.auth.apiKeys!.isAlive(principal), false)
  t.equal((await postTo(app)('/auth/refresh', { refresh_token: first.body.refresh_token })).status, 401)
})

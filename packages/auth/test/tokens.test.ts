import t from 'tap'
import Fastify from 'fastify'
import {
  auth,
  createTokenIssuer,
  createTokenVerifier,
  issueToken,
  type AuthOptions,
  type TokenRequest
} from '@marty/auth'
import type { SecurityEvent } from '@marty/core'
import { AUDIENCE, bearer, ISSUER, now, SECRET, secretFor, TOKENS } from '@marty/testing/tokens'
import { build, forge, validClaims, validHeader } from './service.js'

const key = { kid: 'k1', algorithm: 'HS256', secret: SECRET }

const badOptions: Array<[string, unknown]> = [
  ['issuer', {}],
  ['issuer', { issuer: '' }],
  ['audience', { audience: 5 }],
  ['keys.signing', { keys: {} }],
  ['"keys" is required; it must be { signing, previous }', { keys: undefined }],
  ['keys.signing', { keys: { signing: null } }],
  ['keys.signing.secret', { keys: { signing: { ...key, secret: 'thirty-one bytes are not enough' } } }],
  ['keys.signing.secret', { keys: { signing: { ...key, secret: Buffer.alloc(31) } } }],
  ['keys.signing.secret', { keys: { signing: { ...key, secret: 12 } } }],
  ['keys.signing.kid', { keys: { signing: { ...key, kid: 'a/b' } } }],
  ['keys.signing.algorithm', { keys: { signing: { ...key, algorithm: 'none' } } }],
  ['keys.signing.algorithm', { keys: { signing: { ...key, algorithm: '__proto__' } } }],
  ['keys.previous', { keys: { signing: key, previous: key } }],
  ['keys.previous[0].kid', { keys: { signing: key, previous: [key] } }],
  ['keys.previous[0].secret', { keys: { signing: key, previous: [{ ...key, kid: 'k0', secret: 'short' }] } }],
  ['accessTokenTtlSeconds', { accessTokenTtlSeconds: 0 }],
  ['accessTokenTtlSeconds', { accessTokenTtlSeconds: 86_401 }],
  ['maxLifetimeSeconds', { maxLifetimeSeconds: '1d' }],
  ['clockSkewSeconds', { clockSkewSeconds: 31 }],
  ['routes', { routes: 'yes' }],
  ['sessions', { sessions: true }],
  ['refresh', { refresh: true }],
  ['refresh', { refresh: null }],
  ['refresh.secret', { refresh: {} }],
  ['refresh.secret', { refresh: { secret: 'thirty-one bytes are not enough' } }],
  ['refresh.maxPerSubject', { refresh: { secret: SECRET, maxPerSubject: 0 } }],
  ['refresh.maxPerSubject', { refresh: { secret: SECRET, maxPerSubject: 1_001 } }],
  [
    'refresh.maxPerSubjects" is not known; did you mean "maxPerSubject',
    { refresh: { secret: SECRET, maxPerSubjects: 5 } }
  ],
  ['refresh.x" is not known; known are secret, idleSeconds', { refresh: { secret: SECRET, x: 5 } }],
  ['refresh.clientCredentials', { refresh: { secret: SECRET, clientCredentials: 'yes' } }],
  ['refresh.idleSeconds', { refresh: { secret: SECRET, idleSeconds: 0 } }],
  ['refresh.absoluteSeconds', { refresh: { secret: SECRET, absoluteSeconds: 1.5 } }],
  ['refresh.graceSeconds', { refresh: { secret: SECRET, graceSeconds: 11 } }],
  ['sessions.idleSeconds', { sessions: { idleSeconds: 0 } }],
  ['apiKeys.store', { apiKeys: {} }],
  ['did you mean "audience"', { audiense: 'x' }]
]

t.test('bad options stop the start and name the field, never a secret', async t => {
  for (const [field, changes] of badOptions) {
    const app = Fastify()
    t.teardown(() => app.close())
    const options =
      field === 'issuer' && Object.keys(changes as object).length === 0 ? {} : { ...TOKENS, ...(changes as object) }
    const error = await Promise.resolve(app.register(auth, options as AuthOptions)).then(
      () => null,
      (error: unknown) => error as { code: string; message: string }
    )
    t.equal(error?.code, 'MARTY_AUTH_OPT_INVALID', field)
    t.ok(error?.message.includes(field), `${field}: ${error?.message}`)
    t.notMatch(error?.message, /thirty-one bytes/)
  }
})

t.test("options of Fastify's register are accepted", async t => {
  t.ok(await build(t, { prefix: '/api', logLevel: 'warn', logSerializers: {} } as Partial<AuthOptions>))
})

t.test('what cannot be issued is refused by field', async t => {
  const { issue } = createTokenIssuer(TOKENS)
  const bad: Array<[string, unknown]> = [
    ['subject', {}],
    ['subject', { subject: '' }],
    ['role', { subject: 'a', role: 'x', roles: ['y'] }],
    ['roles', { subject: 'a', roles: [''] }],
    ['roles', { subject: 'a', roles: 'admin' }],
    ['ttlSeconds', { subject: 'a', ttlSeconds: 0 }],
    ['ttlSeconds', { subject: 'a', ttlSeconds: 86_401 }],
    ['ttlSeconds', { subject: 'a', ttlSeconds: 1.5 }],
    ['scopes', { subject: 'a', scopes: ['a b'] }],
    ['kind', { subject: 'a', kind: 'root' }]
  ]
  for (const [field, request] of bad) {
    t.throws(
      () => issue(request as TokenRequest),
      { code: 'MARTY_AUTH_REQUEST_INVALID', message: new RegExp(field) },
      JSON.stringify(request)
    )
  }
})

t.test('an issued token comes back as the principal, with the claims of both vocabularies', async t => {
  const events: SecurityEvent[] = []
  const app = await build(t, { routes: true }, events)
  const before = now()
  const { token, expiresAt, jti } = app.auth.tokens.issue({
    subject: 'alice',
    roles: ['operator', 'viewer'],
    scopes: ['cameras', 'media'],
    kind: 'service',
    ttlSeconds: 120
  })
  t.ok(expiresAt >= (before + 120) * 1000 && expiresAt <= (now() + 120) * 1000)
  const answer = await app.inject({ url: '/who', headers: bearer(token) })
  t.match(answer.json(), {
    id: 'alice',
    kind: 'service',
    roles: ['operator', 'viewer'],
    scopes: ['cameras', 'media'],
    session: jti,
    authenticatedBy: 'jwt',
    expiresAt,
    claims: {
      iss: ISSUER,
      aud: AUDIENCE,
      sub: 'alice',
      user_id: 'alice',
      role: 'operator',
      roles: ['operator', 'viewer'],
      scope: 'cameras media',
      jti
    }
  })
  const me = await app.inject({ url: '/auth/me', headers: bearer(token) })
  t.strictSame(me.json(), {
    id: 'alice',
    kind: 'service',
    roles: ['operator', 'viewer'],
    scopes: ['cameras', 'media'],
    authenticated_by: 'jwt',
    expires_at: new Date(expiresAt).toISOString()
  })
  t.equal(me.headers['cache-control'], 'no-store')
  t.equal((await app.inject('/auth/me')).statusCode, 401)
  t.match(events[0], { type: 'credential', action: 'token.issue', object: jti, principal: { id: 'alice' } })
  t.notMatch(JSON.stringify(events), token)
})

t.test('a token of the seed (user_id, role, exp, iat) with the required claims is a user with one role', async t => {
  const app = await build(t)
  const answer = await app.inject({ url: '/who', headers: bearer(forge(validHeader(), validClaims())) })
  t.match(answer.json(), { id: 'alice', kind: 'user', roles: ['viewer'], scopes: [] })
  t.match(
    (
      await app.inject({
        url: '/who',
        headers: bearer(forge(validHeader(), { ...validClaims(), aud: ['x', AUDIENCE], role: undefined }))
      })
    ).json(),
    { roles: [] }
  )
})

t.test('without routes there is no /auth/me', async t => {
  const app = await build(t)
  t.equal(
    (await app.inject({ url: '/auth/me', headers: bearer(app.auth.tokens.issue({ subject: 'a' }).token) })).statusCode,
    404
  )
})

t.test('a token issued without Fastify is accepted, and the other way round', async t => {
  const app = await build(t)
  const { token } = issueToken(TOKENS, { subject: 'cli', role: 'admin', ttlSeconds: 60 })
  t.match((await app.inject({ url: '/who', headers: bearer(token) })).json(), { id: 'cli', roles: ['admin'] })
  t.match(createTokenVerifier(TOKENS)(app.auth.tokens.issue({ subject: 'bob' }).token), { sub: 'bob' })
})

t.test('rotation: previous keys verify, new tokens carry the new key, dropped keys are refused', async t => {
  const old = issueToken(TOKENS, { subject: 'alice' }).token
  const next = { kid: 'k2', algorithm: 'HS256', secret: secretFor('another secret') } as const
  const overlap = await build(t, {
    keys: { signing: next, previous: [{ kid: 'k1', algorithm: 'HS256', secret: Buffer.from(SECRET) }] }
  })
  overlap.get('/plain', { config: { security: { public: true } } }, async request => await request.jwtVerify())
  for (const token of [
    old,
    overlap.auth.tokens.issue({ subject: 'alice' }).token,
    overlap.jwt.sign({ sub: 'alice' })
  ]) {
    t.equal((await overlap.inject({ url: '/who', headers: bearer(token) })).statusCode, 200)
    t.match((await overlap.inject({ url: '/plain', headers: bearer(token) })).json(), { sub: 'alice' })
  }
  const after = await build(t, { keys: { signing: next } })
  t.equal((await after.inject({ url: '/who', headers: bearer(old) })).statusCode, 401)
  t.equal(
    (await after.inject({ url: '/who', headers: bearer(forge({ ...validHeader(), kid: 'k2' }, validClaims())) }))
      .statusCode,
    401,
    'the old key under the new name'
  )
})

t.test('fastify.jwt works as its users know it, and its tokens pass the verifier', async t => {
  const app = await build(t)
  app.get('/user', { config: { security: { public: true } } }, async request => {
    await request.jwtVerify()
    return request.user
  })
  const token = app.jwt.sign({ sub: 'alice', role: 'viewer' })
  t.match(app.jwt.decode(token), { sub: 'alice', iss: ISSUER, aud: AUDIENCE, jti: String, exp: Number })
  t.match(app.jwt.verify(token), { sub: 'alice' })
  t.match(
    await new Promise(resolve => {
      app.jwt.verify(token, (_error, claims) => {
        resolve(claims)
      })
    }),
    { sub: 'alice' }
  )
  t.match((await app.inject({ url: '/user', headers: bearer(token) })).json(), { sub: 'alice', role: 'viewer' })
  t.match((await app.inject({ url: '/who', headers: bearer(token) })).json(), { id: 'alice', roles: ['viewer'] })
  t.not(
    app.jwt.decode<{ jti: string }>(app.jwt.sign({ sub: 'a' }))?.jti,
    app.jwt.decode<{ jti: string }>(app.jwt.sign({ sub: 'a' }))?.jti
  )
  t.match(app.jwt.decode(app.jwt.sign({ sub: 'a', jti: 'mine' })), { jti: 'mine' })
})

t.test('a revoked token is refused everywhere, on live connections too', async t => {
  const app = await build(t)
  const { token, jti, expiresAt } = app.auth.tokens.issue({ subject: 'alice' })
  const principal = await app.guard.authenticate(token, { address: null, requestId: '1' })
  t.equal(await app.guard.isAlive(principal), true)
  await app.auth.tokens.revoke(jti, expiresAt)
  t.equal(await app.guard.isAlive(principal), false)
  t.equal((await app.inject({ url: '/who', headers: bearer(token) })).statusCode, 401)
  t.throws(() => app.auth.tokens.verify(token), { code: 'MARTY_CORE_CREDENTIAL_INVALID' })
  t.throws(() => app.jwt.verify(token), { code: 'MARTY_CORE_CREDENTIAL_INVALID' })
  await t.rejects(app.guard.authenticate(token, { address: null, requestId: '2' }), {
    code: 'MARTY_CORE_CREDENTIAL_INVALID'
  })
})

t.test('tokens of more than an hour are warned of', async t => {
  for (const [accessTokenTtlSeconds, warned] of [[3_600, false], [86_400, true]] as const) {
    const lines: string[] = []
    const app = Fastify({ logger: { level: 'warn', stream: { write: (line: string) => { lines.push(line) } } } })
    t.teardown(() => app.close())
    await app.register(auth, { ...TOKENS, accessTokenTtlSeconds })
    t.equal(lines.some(line => line.includes('live longer than an hour')), warned)
    t.notMatch(lines.join(), SECRET)
  }
})

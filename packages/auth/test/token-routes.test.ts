import t, { type Test } from 'tap'
import { generateKeyPairSync } from 'node:crypto'
import type { FastifyInstance, InjectOptions } from 'fastify'
import { createMemoryApiKeyStore, type AuthOptions } from '@marty/auth'
import type { SecurityEvent } from '@marty/core'
import { openRedis } from '@marty/redis'
import { freePort } from '@marty/testing'
import { bearer, ISSUER, PEPPER, secretFor, TOKENS } from '@marty/testing/tokens'
import { build } from './service.js'

const REFRESH = { secret: secretFor('refresh tokens'), clientCredentials: true }
const OPTIONS: Partial<AuthOptions> = {
  routes: true,
  refresh: REFRESH,
  apiKeys: { store: createMemoryApiKeyStore(), prefix: 'cam', environment: 'test', pepper: PEPPER, bcryptCost: 8 }
}

async function service (
  t: Test,
  options: Partial<AuthOptions> = {},
  events: SecurityEvent[] = []
): Promise<FastifyInstance> {
  const app = await build(t, { ...OPTIONS, ...options }, events)
  await app.ready()
  return app
}

const post = async (app: FastifyInstance, url: string, body?: object | string, headers: Record<string, string> = {}) =>
  await app.inject({ method: 'POST', url, headers, ...(body === undefined ? {} : { payload: body }) } as InjectOptions)

const keyOf = async (app: FastifyInstance, request: object = {}) =>
  await app.auth.apiKeys!.create({
    name: 'recorder',
    roles: ['operator'],
    scopes: ['camera:view', 'camera:record'],
    expiresInSeconds: 3600,
    ...request
  })

const who = async (app: FastifyInstance, token: string) => await app.inject({ url: '/who', headers: bearer(token) })

t.test('a token is not given for a missing, wrong or unsuitable credential', async t => {
  const events: SecurityEvent[] = []
  const app = await service(t, {}, events)
  const { key } = await keyOf(app)
  const access = app.auth.tokens.issue({ subject: 'alice' }).token
  t.equal((await post(app, '/auth/token')).statusCode, 401, 'nothing')
  for (const [what, headers] of Object.entries({
    'a mistyped key': { 'x-api-key': key.slice(0, -1) + (key.endsWith('a') ? 'b' : 'a') },
    'an access token': bearer(access),
    'two credentials': { 'x-api-key': key, ...bearer(access) }
  })) {
    const answer = await post(app, '/auth/token', undefined, headers as Record<string, string>)
    t.equal(answer.statusCode, 401, what)
    t.equal(answer.headers['www-authenticate']?.toString().startsWith('Bearer'), true)
  }
  t.ok(events.some(({ type, outcome }) => type === 'authentication' && outcome === 'failure'), 'guesses are told')
  for (const [body, code] of [
    [{ grant_type: 'password' }, 'MARTY_AUTH_GRANT_UNSUPPORTED'],
    [{ grant_type: ['client_credentials'] }, 'MARTY_AUTH_BODY_INVALID'],
    [['grant_type'], 'MARTY_AUTH_BODY_INVALID'],
    [{ grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion: 'x' }, 'MARTY_AUTH_GRANT_UNSUPPORTED'],
    [{ scope: 'camera:view admin' }, 'MARTY_AUTH_SCOPE_INVALID'],
    [{ grant_type: 'refresh_token' }, 'MARTY_AUTH_BODY_INVALID']
  ] as const) {
    const answer = await post(app, '/auth/token', body as object, { 'x-api-key': key })
    t.match(answer.json(), { status: 400, code }, JSON.stringify(body))
  }
  const form = { 'content-type': 'application/x-www-form-urlencoded' }
  t.match((await post(app, '/auth/token', 'scope=a&scope=b', { ...form, 'x-api-key': key })).json(), {
    code: 'MARTY_AUTH_BODY_INVALID',
    detail: '"scope" is given twice'
  })
  t.equal(
    (await post(app, '/auth/token', `scope=${'a'.repeat(20_000)}`, { ...form, 'x-api-key': key })).statusCode,
    413
  )
})

t.test('an API key is exchanged for tokens, by JSON or form', async t => {
  const events: SecurityEvent[] = []
  const app = await service(t, {}, events)
  const { key, keyId } = await keyOf(app)
  const answer = await post(app, '/auth/token', 'grant_type=client_credentials&scope=camera:view', {
    'x-api-key': key,
    'content-type': 'application/x-www-form-urlencoded'
  })
  t.equal(answer.statusCode, 200)
  t.equal(answer.headers['cache-control'], 'no-store')
  t.match(answer.json(), {
    access_token: String,
    token_type: 'Bearer',
    expires_in: 900,
    scope: 'camera:view',
    refresh_token: /^ref_/,
    refresh_expires_in: Number
  })
  const { access_token: token, refresh_token: refreshToken } = answer.json()
  const claims = app.auth.tokens.verify(token)
  t.match(claims, {
    iss: ISSUER,
    sub: keyId,
    user_id: keyId,
    role: 'operator',
    roles: ['operator'],
    scope: 'camera:view',
    kind: 'service',
    client_id: keyId,
    sid: String
  })
  t.match((await who(app, token)).json(), {
    id: keyId,
    kind: 'service',
    roles: ['operator'],
    scopes: ['camera:view'],
    authenticatedBy: 'jwt'
  })
  t.equal((await who(app, refreshToken)).statusCode, 401, 'a refresh token is no access token')
  t.match(
    events.filter(({ action }) => action === 'token.issue'),
    [{ type: 'credential', outcome: 'success', object: claims.jti, principal: { id: keyId } }]
  )
  t.equal((await post(app, '/auth/token', {}, bearer(key))).statusCode, 200, 'as Authorization: Bearer')
})

t.test('tokens do not outlive what they came from', async t => {
  const app = await service(t)
  const { key, keyId } = await keyOf(app, { expiresInSeconds: 30 })
  const {
    access_token: token,
    refresh_token: refreshToken,
    expires_in: seconds
  } = (await post(app, '/auth/token', {}, { 'x-api-key': key })).json()
  t.ok(seconds <= 30, `${seconds} s`)
  await app.auth.apiKeys!.revoke(keyId)
  t.equal((await who(app, token)).statusCode, 401, 'the key is revoked')
  t.equal((await post(app, '/auth/refresh', { refresh_token: refreshToken })).statusCode, 401)
})

t.test('a refresh token is used once; using an old one ends the family', async t => {
  const events: SecurityEvent[] = []
  const app = await service(t, { refresh: { ...REFRESH, graceSeconds: 0 } }, events)
  const { key } = await keyOf(app)
  const first = (await post(app, '/auth/token', {}, { 'x-api-key': key })).json()
  const second = await post(app, '/auth/refresh', { refresh_token: first.refresh_token })
  t.equal(second.statusCode, 200)
  t.not(second.json().refresh_token, first.refresh_token)
  t.equal(app.auth.tokens.verify(second.json().access_token)['sid'], app.auth.tokens.verify(first.access_token)['sid'])
  const third = await post(app, '/auth/token', {
    grant_type: 'refresh_token',
    refresh_token: second.json().refresh_token
  })
  t.equal(third.statusCode, 200, 'the OAuth way')
  t.equal(events.filter(({ action }) => action === 'token.refresh').length, 2)

  const stolen = await post(app, '/auth/refresh', { refresh_token: first.refresh_token })
  t.equal(stolen.statusCode, 401)
  t.equal(
    (await post(app, '/auth/refresh', { refresh_token: third.json().refresh_token })).statusCode,
    401,
    'the thief and the owner are out'
  )
  t.equal((await who(app, third.json().access_token)).statusCode, 401, 'and so are the access tokens')
  t.match(events.filter(({ action }) => action === 'refresh_token.reuse'), [{ type: 'credential', outcome: 'denied' }])
})

t.test('a wrong refresh token is a wrong credential like any other', async t => {
  const app = await service(t)
  const bodies: string[] = []
  for (const token of [
    'x',
    'ref_',
    `ref_${'a'.repeat(65)}`,
    `ref_${'a'.repeat(100_000)}`.slice(0, 15_000),
    'ref_\u0000',
    app.auth.tokens.issue({ subject: 'alice' }).token
  ]) {
    const answer = await post(app, '/auth/refresh', { refresh_token: token })
    t.equal(answer.statusCode, 401)
    t.equal(answer.headers['www-authenticate'], 'Bearer error="invalid_token"')
    bodies.push(JSON.stringify({ ...answer.json(), request_id: '' }))
  }
  t.equal(new Set(bodies).size, 1, 'and one answer')
  t.equal((await post(app, '/auth/refresh', {})).statusCode, 400)
  t.equal((await post(await service(t, { refresh: false }), '/auth/refresh', {})).statusCode, 404)
})

t.test('signing out ends the token and its family; everywhere ends all', async t => {
  const app = await service(t)
  const { key } = await keyOf(app)
  const one = (await post(app, '/auth/token', {}, { 'x-api-key': key })).json()
  const two = (await post(app, '/auth/token', {}, { 'x-api-key': key })).json()
  t.equal((await post(app, '/auth/logout')).statusCode, 401)
  t.equal((await post(app, '/auth/logout', {}, { 'x-api-key': key })).statusCode, 401, 'a key is not signed out')
  t.equal((await post(app, '/auth/logout', undefined, bearer(one.access_token))).statusCode, 204)
  t.equal((await who(app, one.access_token)).statusCode, 401)
  t.equal((await post(app, '/auth/refresh', { refresh_token: one.refresh_token })).statusCode, 401)
  t.equal((await who(app, two.access_token)).statusCode, 200)
  const three = (await post(app, '/auth/token', {}, { 'x-api-key': key })).json()
  t.equal((await post(app, '/auth/logout', { everywhere: true }, bearer(two.access_token))).statusCode, 204)
  for (const { access_token: token, refresh_token: refreshToken } of [two, three]) {
    t.equal((await who(app, token)).statusCode, 401)
    t.equal((await post(app, '/auth/refresh', { refresh_token: refreshToken })).statusCode, 401)
  }
  const again = (await post(app, '/auth/token', {}, { 'x-api-key': key })).json()
  t.equal((await who(app, again.access_token)).statusCode, 200, 'in again at once')
})

t.test('whoever holds a token can end it, and learns nothing of other texts', async t => {
  const events: SecurityEvent[] = []
  const app = await service(t, {}, events)
  const { key } = await keyOf(app)
  const { access_token: token, refresh_token: refreshToken } = (
    await post(app, '/auth/token', {}, { 'x-api-key': key })
  ).json()
  for (const text of ['nonsense', `ref_${'b'.repeat(65)}`, `ses_${'c'.repeat(43)}`]) {
    const answer = await post(app, '/auth/revoke', { token: text })
    t.equal(answer.statusCode, 200)
    t.equal(answer.body, '')
  }
  t.equal((await post(app, '/auth/revoke', {})).statusCode, 400)
  t.match((await post(app, '/auth/revoke', { token: key })).json(), { status: 400, code: 'MARTY_AUTH_BODY_INVALID' })
  t.equal(
    (await post(app, '/auth/revoke', `token=${token}`, { 'content-type': 'application/x-www-form-urlencoded' }))
      .statusCode,
    200
  )
  t.equal((await who(app, token)).statusCode, 401)
  t.equal(
    (await post(app, '/auth/revoke', { token: refreshToken, token_type_hint: 'access_token' })).statusCode,
    200,
    'a hint is only a hint'
  )
  t.equal((await post(app, '/auth/refresh', { refresh_token: refreshToken })).statusCode, 401)
  const principal = await app.guard.authenticate(app.auth.tokens.issue({ subject: 'alice', role: 'viewer' }).token, {
    address: null,
    requestId: '1'
  })
  const { id } = await app.auth.sessions!.create(principal)
  t.equal((await post(app, '/auth/revoke', { token: id })).statusCode, 200)
  t.equal((await who(app, id)).statusCode, 401)
  t.equal(events.filter(({ action }) => action === 'token.revoke').length, 3, 'each end is told, nonsense is not')
})

t.test('introspection tells services what a token is worth now', async t => {
  const app = await service(t)
  const { key, keyId } = await keyOf(app)
  const { access_token: token, refresh_token: refreshToken } = (await post(app, '/auth/token', {}, { 'x-api-key': key })).json()
  const ask = async (text: string) =>
    (await post(app, '/auth/introspect', { token: text }, { 'x-api-key': key })).json()
  t.equal((await post(app, '/auth/introspect', { token })).statusCode, 401)
  t.equal((await post(app, '/auth/introspect', { token }, bearer(token))).statusCode, 401, 'not by the token itself')
  t.match(await ask(token), {
    active: true,
    token_type: 'access_token',
    sub: keyId,
    client_id: keyId,
    exp: Number,
    iat: Number,
    jti: String
  })
  t.match(await ask(refreshToken), { active: true, token_type: 'refresh_token', sub: keyId })
  t.strictSame(await ask('nonsense'), { active: false })
  t.strictSame(await ask(`ref_${'d'.repeat(65)}`), { active: false })
  await post(app, '/auth/revoke', { token: refreshToken })
  t.strictSame(await ask(token), { active: false }, 'its family is over')
  t.strictSame(await ask(refreshToken), { active: false })
})

t.test('without routes there is none, and without clients no client grant', async t => {
  t.equal((await post(await build(t, { ...OPTIONS, routes: false }), '/auth/token')).statusCode, 404)
  const { apiKeys, ...noKeys } = OPTIONS
  const app = await build(t, noKeys)
  t.match((await post(app, '/auth/token', {})).json(), { code: 'MARTY_AUTH_GRANT_UNSUPPORTED' })
  t.equal((await post(app, '/auth/introspect', { token: 'x' })).statusCode, 404, 'and nobody who might introspect')
  await t.rejects(build(t, { ...OPTIONS, routes: { introspection: 'yes' } as never }), {
    code: 'MARTY_AUTH_OPT_INVALID'
  })
  const open = await service(t, { routes: { introspection: { authenticate: ['jwt'] } } })
  t.strictSame(
    (
      await post(open, '/auth/introspect', { token: 'x' }, bearer(open.auth.tokens.issue({ subject: 'alice' }).token))
    ).json(),
    { active: false }
  )
})

t.test('asymmetric tokens work the same way', async t => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const app = await service(t, { ...TOKENS, keys: { signing: { kid: 'es', algorithm: 'ES256', privateKey } } })
  const { key } = await keyOf(app)
  const { access_token: token } = (await post(app, '/auth/token', {}, { 'x-api-key': key })).json()
  t.equal((await who(app, token)).statusCode, 200)
  t.match((await app.inject('/.well-known/jwks.json')).json(), { keys: [{ kid: 'es', kty: 'EC', alg: 'ES256' }] })
})

t.test('a session signs itself out', async t => {
  const app = await service(t)
  const { id } = await app.auth.sessions!.create(
    await app.guard.authenticate(app.auth.tokens.issue({ subject: 'alice' }).token, { address: null, requestId: '1' })
  )
  t.equal((await who(app, id)).statusCode, 200)
  t.equal((await post(app, '/auth/logout', undefined, bearer(id))).statusCode, 204)
  t.equal((await who(app, id)).statusCode, 401)
})

t.test('without the store nobody is told that a token is good, or bad', async t => {
  const connection = openRedis({ port: await freePort() })
  t.teardown(async () => { await connection.close() })
  const app = await service(t, { store: { redis: connection.client } })
  const { key } = await keyOf(app)
  const { token } = app.auth.tokens.issue({ subject: 'alice' })
  for (const [url, headers] of [['/auth/introspect', { 'x-api-key': key }], ['/auth/revoke', {}]] as const) {
    const answer = await post(app, url, { token }, headers)
    t.match(answer.json(), { status: 503, code: 'MARTY_AUTH_STORE_UNAVAILABLE' }, url)
    t.equal(answer.headers['retry-after'], '1')
  }
})

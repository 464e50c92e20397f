import t, { type Test } from 'tap'
import { createHash, sign } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import { auth, createMemoryApiKeyStore, type AuthOptions, type TrustedIssuerOptions } from '@marty/auth'
import { setProblemHandlers, useGuard, type SecurityEvent } from '@marty/core'
import { forgeWith, PAIRS } from '@marty/testing/key-pairs'
import { FOREIGN, foreign, keySet, provide, publicJwk } from '@marty/testing/provider'
import { AUDIENCE, bearer, encode, now, PEPPER, secretFor, TOKENS } from '@marty/testing/tokens'
import { build, forge, validClaims, validHeader } from './service.js'

const HOUR = 3_600
const DAY = 86_400
/** As Amazon Cognito names its keys. */
const BASE64_KID = 'XrLhJqcoK0h1BUE8IsiPJ8gGIOBkFVJ0+/sGTnF9mF8='

interface Shape {
  readonly options: Partial<TrustedIssuerOptions>
  readonly header: Record<string, unknown>
  readonly claims: () => Record<string, unknown>
  /** Each makes a token that is refused, and says for what. */
  readonly wrong: Readonly<Record<string, Record<string, unknown>>>
}

const times = (lifeSeconds: number): Record<string, number> => ({ iat: now() - 10, exp: now() - 10 + lifeSeconds })

/** Tokens as the providers document them. */
const shapes: Readonly<Record<string, Shape>> = {
  'Google ID token': {
    options: {
      issuer: 'https://accounts.google.com',
      audience: '1234.apps.googleusercontent.com',
      algorithms: ['RS256'],
      typ: 'JWT',
      requireJti: false,
      requiredClaims: { hd: 'example.com', email_verified: true }
    },
    header: { alg: 'RS256', kid: 'RS256', typ: 'JWT' },
    claims: () => ({
      iss: 'https://accounts.google.com',
      azp: '1234.apps.googleusercontent.com',
      aud: '1234.apps.googleusercontent.com',
      sub: '110169484474386276334',
      hd: 'example.com',
      email: 'a@example.com',
      email_verified: true,
      at_hash: 'x',
      ...times(HOUR)
    }),
    wrong: {
      aud: { aud: '5678.apps.googleusercontent.com' },
      hd: { hd: 'example.org' },
      email_verified: { email_verified: 'true' }
    }
  },
  'Entra ID v2 access token': {
    options: {
      issuer: 'https://login.microsoftonline.com/9122040d/v2.0',
      audience: '6e74172b',
      algorithms: ['RS256'],
      typ: 'JWT',
      requireJti: false,
      requiredClaims: { ver: '2.0', tid: '9122040d' }
    },
    header: { alg: 'RS256', kid: 'RS256', typ: 'JWT' },
    claims: () => ({
      iss: 'https://login.microsoftonline.com/9122040d/v2.0',
      aud: '6e74172b',
      sub: 'AAAA',
      oid: 'x',
      tid: '9122040d',
      uti: 'fqiBqXLPj0eQa82S-IYFAA',
      ver: '2.0',
      scp: 'access',
      nbf: now() - 10,
      ...times(HOUR + 1_000)
    }),
    wrong: {
      tid: { tid: 'another' },
      ver: { ver: '1.0' },
      iss: { iss: 'https://login.microsoftonline.com/another/v2.0' }
    }
  },
  'Auth0 access token': {
    options: {
      issuer: 'https://tenant.eu.auth0.com/',
      audience: 'https://cameras.example',
      algorithms: ['RS256'],
      typ: 'JWT',
      requireJti: false,
      maxLifetimeSeconds: DAY
    },
    header: { alg: 'RS256', kid: 'RS256', typ: 'JWT' },
    claims: () => ({
      iss: 'https://tenant.eu.auth0.com/',
      sub: 'auth0|5f7c8ec7c33c6c004bbafe82',
      aud: ['https://cameras.example', 'https://tenant.eu.auth0.com/userinfo'],
      azp: 'client',
      scope: 'openid',
      ...times(DAY)
    }),
    wrong: { aud: { aud: ['https://tenant.eu.auth0.com/userinfo'] }, lifetime: times(DAY + 1) }
  },
  'Amazon Cognito access token': {
    options: {
      issuer: 'https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_x',
      audience: '1example23456789',
      audienceClaim: 'client_id',
      algorithms: ['RS256'],
      typ: null,
      requiredClaims: { token_use: 'access' }
    },
    header: { alg: 'RS256', kid: BASE64_KID },
    claims: () => ({
      iss: 'https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_x',
      sub: 'aaaaaaaa',
      client_id: '1example23456789',
      origin_jti: 'o',
      event_id: 'e',
      token_use: 'access',
      scope: 'aws.cognito.signin.user.admin',
      auth_time: 1,
      jti: 'bbbb',
      username: 'u',
      ...times(HOUR)
    }),
    wrong: {
      client_id: { client_id: 'another' },
      aud: { aud: 'another' },
      token_use: { token_use: 'id', aud: '1example23456789' },
      jti: { jti: undefined }
    }
  },
  'Keycloak access token': {
    options: {
      issuer: 'https://keycloak.example/realms/cameras',
      audience: 'camera-service',
      algorithms: ['RS256'],
      typ: 'JWT',
      requiredClaims: { typ: 'Bearer' }
    },
    header: { alg: 'RS256', kid: 'RS256', typ: 'JWT' },
    claims: () => ({
      iss: 'https://keycloak.example/realms/cameras',
      aud: ['camera-service', 'account'],
      sub: 'f:1',
      typ: 'Bearer',
      azp: 'web',
      sid: 's',
      jti: 'onrtac:1',
      realm_access: { roles: ['viewer'] },
      ...times(300)
    }),
    wrong: { typ: { typ: 'ID' }, aud: { aud: 'account' } }
  }
}

const tokenOf = ({ header, claims }: Shape, changes: object = {}, more: object = {}): string =>
  forgeWith('RS256', { ...header, ...more }, { ...claims(), ...changes })

/** A service that trusts a provider of this shape, its log and its events. */
async function trusting (
  t: Test,
  options: Partial<TrustedIssuerOptions>,
  more: Partial<AuthOptions> = {}
): Promise<{ app: FastifyInstance; lines: Array<Record<string, unknown>>; events: SecurityEvent[] }> {
  const provider = await provide(t, options)
  const rsa = PAIRS.RS256.publicKey
  provider.answer = keySet(
    publicJwk(rsa, { kid: 'RS256', alg: 'RS256' }),
    publicJwk(rsa, { kid: BASE64_KID, alg: 'RS256' }),
    publicJwk(PAIRS.ES256.publicKey, { kid: 'ES256', alg: 'ES256' })
  )
  const lines: Array<Record<string, unknown>> = []
  const events: SecurityEvent[] = []
  const app = Fastify({
    logger: {
      level: 'debug',
      stream: {
        write: (line: string) => {
          lines.push(JSON.parse(line) as Record<string, unknown>)
        }
      }
    }
  }) as unknown as FastifyInstance
  t.teardown(() => app.close())
  useGuard(app, { strict: true }).addSink(event => { events.push(event) })
  setProblemHandlers(app)
  await app.register(auth, { ...TOKENS, routes: true, trustedIssuers: [provider.options], ...more })
  app.get('/who', { config: { security: { authenticate: true } } }, async request => request.principal)
  await app.ready()
  return { app, lines, events }
}

const ask = async (app: FastifyInstance, token: string) => await app.inject({ url: '/who', headers: bearer(token) })

for (const [name, shape] of Object.entries(shapes)) {
  t.test(`${name}: accepted as the issuer's options say, revoked like any other, and refused by default`, async t => {
    const { app, lines, events } = await trusting(t, shape.options)
    const token = tokenOf(shape)
    const answer = await ask(app, token)
    t.equal(answer.statusCode, 200, answer.body)
    const { iss, sub } = shape.claims()
    const { id, session } = answer.json<{ id: string, session: string }>()
    t.equal(id, `${String(iss)}|${String(sub)}`)
    t.ok(session.length > id.length - String(sub).length)
    const another = tokenOf(shape, { jti: shape.claims()['jti'] === undefined ? undefined : 'another', auth_time: 2 })
    t.equal((await app.inject({ method: 'POST', url: '/auth/logout', headers: bearer(token) })).statusCode, 204)
    t.equal((await ask(app, token)).statusCode, 401, 'revoked')
    t.equal(
      (await ask(app, another)).statusCode,
      shape.claims()['sid'] === undefined ? 200 : 401,
      'and no other, unless it is of the same session'
    )

    for (const [reason, changes] of Object.entries(shape.wrong)) {
      const { statusCode, body } = await ask(app, tokenOf(shape, changes))
      t.equal(statusCode, 401, reason)
      t.notMatch(body, new RegExp(`"${reason}"`), 'the answer does not say why')
      if (reason !== 'iss') {
        t.match(events.at(-1), {
          type: 'authentication',
          outcome: 'failure',
          reason: 'MARTY_CORE_CREDENTIAL_INVALID',
          details: { reason }
        })
      }
      t.ok(
        lines.some(line => line['msg'] === 'request refused' && line['reason'] === reason),
        `${reason} is in the log`
      )
    }

    const { issuer, audience, algorithms } = shape.options
    const strict = await trusting(t, { issuer: issuer!, audience: audience!, algorithms: algorithms! })
    t.equal((await ask(strict.app, tokenOf(shape))).statusCode, 401, 'nothing of it is accepted unless it is asked for')
  })
}

t.test('a token without jti is identified by its content, whatever its signature or spelling', async t => {
  const { app } = await trusting(t, { requireJti: false })
  const token = foreign('ES256', { jti: undefined })
  const [header = '', payload = '', signature = ''] = token.split('.')
  const { id, session } = (await ask(app, token)).json<{ id: string; session: string }>()
  t.equal(session, `${FOREIGN}|#${createHash('sha256').update(`${header}.${payload}`).digest('base64url')}`)
  // Whoever has a signature (r, s) of ES256 has (r, n - s) as well.
  const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551')
  const bytes = Buffer.from(signature, 'base64url')
  const twin = Buffer.concat([
    bytes.subarray(0, 32),
    Buffer.from((order - BigInt(`0x${bytes.subarray(32).toString('hex')}`)).toString(16).padStart(64, '0'), 'hex')
  ])
  const again = sign('sha256', Buffer.from(`${header}.${payload}`), {
    key: PAIRS.ES256.privateKey,
    dsaEncoding: 'ieee-p1363'
  })
  const same = [twin, again].map(other => `${header}.${payload}.${other.toString('base64url')}`)
  for (const other of same) t.equal((await ask(app, other)).statusCode, 200)
  t.equal((await app.inject({ method: 'POST', url: '/auth/revoke', payload: { token } })).statusCode, 200)
  for (const other of [token, ...same]) t.equal((await ask(app, other)).statusCode, 401)
  t.equal((await ask(app, foreign('ES256', { jti: undefined, sub: 'bob' }))).statusCode, 200)
  t.equal(
    (await ask(app, foreign('ES256', { jti: undefined, iat: now() - 1 }))).statusCode,
    200,
    'another token of the same caller'
  )
  t.equal(id, `${FOREIGN}|alice`)
  for (const jti of ['', 5, null, ['a'], 'j'.repeat(257)]) {
    t.equal((await ask(app, foreign('ES256', { jti }))).statusCode, 401, 'a jti that is there is one')
  }
})

t.test('a revocation is remembered as long as the longest token of any issuer lives', async t => {
  const week = 7 * DAY
  const { app } = await trusting(t, { maxLifetimeSeconds: week })
  const token = foreign('ES256', { jti: 'long', exp: now() + week - 60, iat: now() - 60 })
  t.equal((await ask(app, token)).statusCode, 200)
  t.equal((await app.inject({ method: 'POST', url: '/auth/revoke', payload: { token } })).statusCode, 200)
  const real = Date.now
  t.teardown(() => { Date.now = real })
  Date.now = () => real() + (week - 3_600) * 1000
  t.equal((await ask(app, token)).statusCode, 401)
  Date.now = real
  t.equal((await ask(app, foreign('ES256', { exp: now() + week + 60 }))).statusCode, 401)
  const shorter = await trusting(t, { maxLifetimeSeconds: 60 })
  t.equal((await ask(shorter.app, foreign('ES256'))).statusCode, 401, 'less than ours is asked for too')
})

t.test('types: one, several, none', async t => {
  const { app } = await trusting(t, { typ: ['JWT', 'at+jwt', null] })
  for (const typ of ['JWT', 'at+jwt', undefined]) {
    t.equal((await ask(app, foreign('ES256', {}, { typ }))).statusCode, 200, String(typ))
  }
  for (const typ of [null, '', 'jwt', 'logout+jwt', 'dpop+jwt', ['JWT'], 0]) {
    t.equal((await ask(app, foreign('ES256', {}, { typ }))).statusCode, 401, String(typ))
  }
  const named = await trusting(t, { typ: ['JWT'] })
  t.equal((await ask(named.app, foreign('ES256', {}, { typ: undefined }))).statusCode, 401)
})

t.test('names of claims that every object has are no claims', async t => {
  const { app } = await trusting(t, { requiredClaims: { toString: 'x', level: 0 } })
  t.equal((await ask(app, foreign('ES256', { level: 0 }))).statusCode, 401)
  t.equal((await ask(app, foreign('ES256', { level: -0, toString: 'x' }))).statusCode, 200)
  t.equal((await ask(app, foreign('ES256', { level: '0', toString: 'x' }))).statusCode, 401)
})

t.test('the reason of every refusal is in the log and among the events, in words of ours, and never in the answer', async t => {
  const { app, lines, events } = await trusting(t, {}, {
    apiKeys: {
      store: createMemoryApiKeyStore(),
      prefix: 'cam',
      environment: 'test',
      pepper: PEPPER,
      bcryptCost: 8
    },
    refresh: { secret: secretFor('refresh') }
  })
  const { key } = await app.auth.apiKeys!.create({ name: 'k', roles: [], expiresInSeconds: 60 })
  const revoked = app.auth.tokens.issue({ subject: 'alice' })
  await app.auth.tokens.revoke(revoked.jti, revoked.expiresAt)
  const huge = 'secret-looking-text-'.repeat(150)
  const cases: ReadonlyArray<readonly [reason: string, token: string]> = [
    ['segments', huge],
    ['size', huge.repeat(3)],
    ['base64url', 'a.b.c d'],
    ['header', forge('{', validClaims())],
    ['crit', forge({ ...validHeader(), crit: [huge.slice(0, 100)] }, validClaims())],
    ['typ', forge({ ...validHeader(), typ: 'JWT' }, validClaims())],
    ['kid', forge({ ...validHeader(), kid: 'unknown' }, validClaims())],
    ['iss', forge({ ...validHeader(), kid: 'theirs', typ: 'JWT' }, { ...validClaims(), iss: huge })],
    ['iss', forge(validHeader(), { ...validClaims(), iss: `${FOREIGN}/` })],
    ['iss', forge({ ...validHeader(), kid: 'theirs' }, { ...validClaims(), iss: `${FOREIGN}/` })],
    ['signature', forge(validHeader(), validClaims(), 'another secret of more than thirty-two bytes')],
    ['exp', forge(validHeader(), { ...validClaims(), exp: now() - 1, iat: now() - 60 })],
    ['aud', forge(validHeader(), { ...validClaims(), aud: huge })],
    ['sub', forge(validHeader(), { ...validClaims(), sub: huge })],
    ['roles', forge(validHeader(), { ...validClaims(), role: undefined, roles: [huge] })],
    ['source_jti', forge(validHeader(), { ...validClaims(), source_jti: 5 })],
    ['jti', foreign('ES256', { jti: undefined })],
    ['typ', foreign('ES256', {}, { typ: 'JWT' })],
    ['kid', foreign('ES256', {}, { kid: 'unknown' })],
    ['aud', foreign('ES256', { aud: huge })],
    ['lifetime', foreign('ES256', { exp: now() + DAY + 60 })],
    ['revoked', revoked.token],
    ['form', key.slice(0, -1)],
    ['session has ended', `ses_${'A'.repeat(43)}`]
  ]
  const bodies = new Set<string>()
  for (const [index, [reason, token]] of cases.entries()) {
    const answer = await ask(app, token)
    t.equal(answer.statusCode, 401, reason)
    bodies.add(answer.body.replace(answer.json<{ request_id: string }>().request_id, ''))
    t.equal(events.at(-1)?.details?.['reason'], reason)
    // Of one code ten lines are written in ten seconds.
    if (index < 10) t.equal(lines.findLast(line => line['msg'] === 'request refused')?.['reason'], reason)
  }
  const refused = await app.inject({
    method: 'POST',
    url: '/auth/refresh',
    payload: { refresh_token: `ref_${'a'.repeat(65)}` }
  })
  t.equal(refused.statusCode, 401)
  t.equal(events.at(-1)?.details?.['reason'], 'family unknown')
  t.equal(bodies.size, 1, 'one answer for all')
  const written = JSON.stringify([lines, events])
  t.notMatch(written, /secret-looking/)
  t.notMatch(written, new RegExp(revoked.token.split('.')[2]!))
})

t.test('the answer to a wrong token is the same with and without other issuers', async t => {
  const { app } = await trusting(t, {})
  const alone = await build(t)
  const token = forge({ ...validHeader(), kid: 'x' }, { ...validClaims(), aud: AUDIENCE })
  const [a, b] = [await ask(app, token), await ask(alone, token)]
  const without = (body: string): string => body.replace(/"request_id":"[^"]*"/, '')
  t.equal(without(a.body), without(b.body))
  t.equal((await ask(app, `${encode(validHeader())}.${encode({ iss: FOREIGN })}.`)).statusCode, 401)
})

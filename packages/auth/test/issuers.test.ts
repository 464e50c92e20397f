import t, { type Test } from 'tap'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import { auth, createTokenIssuer, type AuthOptions } from '@marty/auth'
import { until } from '@marty/testing'
import { ASYMMETRIC, forgeWith, type Pair, pairFor, PAIRS } from '@marty/testing/key-pairs'
import {
  allKeys,
  CA,
  claims,
  FOREIGN,
  foreign,
  keySet,
  provide,
  type Provider,
  publicJwk
} from '@marty/testing/provider'
import { AUDIENCE, bearer, encode, now, TOKENS } from '@marty/testing/tokens'
import { build, validClaims } from './service.js'

const ask = async (
  app: FastifyInstance,
  token: string
): Promise<{ status: number; body: Record<string, unknown>; headers: Record<string, unknown> }> => {
  const answer = await app.inject({ url: '/who', headers: bearer(token) })
  return { status: answer.statusCode, body: answer.json(), headers: answer.headers }
}
const statusOf = async (app: FastifyInstance, token: string): Promise<number> => (await ask(app, token)).status

function clock (t: Test): { advance: (ms: number) => void } {
  const real = performance.now.bind(performance)
  let ahead = 0
  performance.now = () => real() + ahead
  t.teardown(() => { performance.now = real })
  return { advance: ms => { ahead += ms } }
}

const MINUTE = 60_000

t.test('bad issuers stop the start and name the field', async t => {
  const good = { issuer: FOREIGN, jwksUrl: 'https://login.example/jwks', algorithms: ['ES256'] }
  const bad: ReadonlyArray<readonly [string, unknown]> = [
    ['trustedIssuers', good],
    ['trustedIssuers', null],
    ['trustedIssuers[0]', [null]],
    ['trustedIssuers[0].issuer', [{ ...good, issuer: '' }]],
    ['trustedIssuers[0].issuer', [{ ...good, issuer: TOKENS.issuer }]],
    ['trustedIssuers[1].issuer', [good, good]],
    ['trustedIssuers[0].audience', [{ ...good, audience: 5 }]],
    ['trustedIssuers[0].jwksUrl', [{ ...good, jwksUrl: 'http://login.example/jwks' }]],
    ['trustedIssuers[0].jwksUrl', [{ ...good, jwksUrl: 'file:///etc/passwd' }]],
    ['trustedIssuers[0].jwksUrl', [{ ...good, jwksUrl: 'login.example' }]],
    ['trustedIssuers[0].jwksUrl', [{ ...good, jwksUrl: undefined }]],
    ['trustedIssuers[0].algorithms', [{ ...good, algorithms: [] }]],
    ['trustedIssuers[0].algorithms', [{ ...good, algorithms: ['HS256'] }]],
    ['trustedIssuers[0].algorithms', [{ ...good, algorithms: ['ES256', 'none'] }]],
    ['trustedIssuers[0].algorithms', [{ ...good, algorithms: 'ES256' }]],
    ['trustedIssuers[0].algorithms', [{ ...good, algorithms: ['toString'] }]],
    ['trustedIssuers[0].issuer', [{ ...good, issuer: 'https://login.example|alice' }]],
    ['trustedIssuers[0].typ', [{ ...good, typ: 'refresh+jwt' }]],
    ['trustedIssuers[0].typ', [{ ...good, typ: [] }]],
    ['trustedIssuers[0].typ', [{ ...good, typ: ['JWT', undefined] }]],
    ['trustedIssuers[0].audienceClaim', [{ ...good, audienceClaim: 'azp' }]],
    ['trustedIssuers[0].requireJti', [{ ...good, requireJti: 'no' }]],
    ['trustedIssuers[0].maxLifetimeSeconds', [{ ...good, maxLifetimeSeconds: 0 }]],
    ['trustedIssuers[0].maxLifetimeSeconds', [{ ...good, maxLifetimeSeconds: 366 * 86_400 }]],
    ['trustedIssuers[0].requiredClaims', [{ ...good, requiredClaims: ['hd'] }]],
    ['trustedIssuers[0].requiredClaims', [{ ...good, requiredClaims: { groups: ['a'] } }]],
    ['trustedIssuers[0].requiredClaims', [{ ...good, requiredClaims: null }]],
    ['trustedIssuers[0].rolesOf', [{ ...good, rolesOf: ['admin'] }]],
    ['trustedIssuers[0].ca', [{ ...good, ca: 5 }]],
    ['did you mean "algorithms"', [{ ...good, algorithm: ['ES256'] }]],
    ['known are issuer', [{ ...good, somethingElse: 1 }]]
  ]
  for (const [field, trustedIssuers] of bad) {
    const app = Fastify()
    t.teardown(() => app.close())
    const error = await Promise.resolve(app.register(auth, { ...TOKENS, trustedIssuers } as AuthOptions)).then(
      () => null,
      (error: unknown) => error as Error & { code: string }
    )
    t.equal(error?.code, 'MARTY_AUTH_OPT_INVALID', field)
    t.ok(error?.message.includes(field), `${field}: ${error?.message}`)
  }
})

t.test('a token of another issuer is a user of that issuer, with the roles it is mapped to and no others', async t => {
  const provider = await provide(t)
  const app = await build(t, { trustedIssuers: [provider.options] })
  const token = foreign('ES256', {
    role: 'admin',
    roles: ['admin'],
    scope: 'everything',
    kind: 'service',
    user_id: 'root',
    sid: 5,
    jti: 'j1'
  })
  const { status, body } = await ask(app, token)
  t.equal(status, 200)
  t.match(body, {
    id: `${FOREIGN}|alice`,
    kind: 'user',
    authenticatedBy: 'jwt',
    session: `${FOREIGN}|j1`,
    claims: { iss: FOREIGN, sub: 'alice' }
  })
  t.strictSame([body['roles'], body['scopes']], [[], []])
  for (const alg of ASYMMETRIC) t.equal(await statusOf(app, foreign(alg)), 200, alg)
  t.equal(provider.asked, 1, 'for all of them')

  // The same names mean somebody else here.
  const local = app.auth.tokens.issue({ subject: 'alice' })
  t.match((await ask(app, local.token)).body, { id: 'alice' })
  await app.auth.tokens.revoke(local.jti, local.expiresAt)
  t.equal(await statusOf(app, foreign('ES256', { jti: local.jti })), 200, 'a local revocation is of a local token')
  const principal = await app.guard.authenticate(token, { address: null, requestId: '1' })
  await app.auth.tokens.revoke(principal.session!, principal.expiresAt!)
  t.equal(await statusOf(app, token), 401, 'and one of the session ends the foreign one')
  t.equal(await app.guard.isAlive(principal), false)

  const mapped = await provide(t, {
    audience: 'another',
    typ: 'JWT',
    ca: CA.toString(),
    rolesOf: ({ groups }) => (groups as string[]).map(group => group.toLowerCase())
  })
  const second = await build(t, {
    trustedIssuers: [{ ...provider.options, issuer: 'https://unused.example' }, mapped.options]
  })
  const theirs = (changes: object, header: object = {}): string =>
    foreign('EdDSA', { aud: ['x', 'another'], groups: ['Viewer'], ...changes }, { typ: 'JWT', ...header })
  t.match((await ask(second, theirs({}))).body, { id: `${FOREIGN}|alice`, roles: ['viewer'] })
  for (const changes of [
    { groups: undefined },
    { groups: [5] },
    { groups: [''] },
    { groups: Array.from({ length: 33 }, () => 'a') },
    { aud: AUDIENCE }
  ]) {
    t.equal(await statusOf(second, theirs(changes)), 401, JSON.stringify(changes).slice(0, 40))
  }
  t.equal(await statusOf(second, theirs({}, { typ: 'at+jwt' })), 401)
})

t.test('whatever is wrong with a foreign token, it gets the one 401', async t => {
  const provider = await provide(t, { algorithms: ['ES256', 'EdDSA', 'RS256'] })
  const app = await build(t, { trustedIssuers: [provider.options] })
  const other = await provide(t)
  const twoIssuers = await build(t, {
    trustedIssuers: [provider.options, { ...other.options, issuer: 'https://other.example' }]
  })
  other.answer = keySet(publicJwk(pairFor('ES256').publicKey, { kid: 'ES256', alg: 'ES256' }))
  const good = foreign('ES256')
  t.equal(await statusOf(app, good), 200)
  const hmac = (key: string | Buffer): string =>
    forgeWith('HS256', { alg: 'HS256', typ: 'at+jwt', kid: 'ES256' }, claims(), key as string)
  const issuerTwice = `${JSON.stringify(claims()).slice(0, -1)},"iss":"${FOREIGN}"}`
  const bad: Record<string, string> = {
    'another key': foreign('ES256', {}, {}, pairFor('ES256').privateKey),
    'an algorithm the issuer may not use': foreign('PS256'),
    'the RSA key under another algorithm': foreign('PS256', {}, { kid: 'RS256' }),
    'the name of another algorithm': foreign('ES256', {}, { alg: 'EdDSA' }),
    'alg none': `${encode({ alg: 'none', typ: 'at+jwt', kid: 'ES256' })}.${encode(claims())}.`,
    'HMAC with the public PEM': hmac(PAIRS.ES256.publicKey.export({ type: 'spki', format: 'pem' }) as string),
    'HMAC with the public JWK': hmac(JSON.stringify(allKeys[0])),
    'HMAC with the local secret': forgeWith('HS256', { alg: 'HS256', typ: 'at+jwt', kid: 'k1' }, claims()),
    'a foreign key for a local token': forgeWith(
      'ES256',
      { alg: 'ES256', typ: 'at+jwt', kid: 'ES256' },
      { ...validClaims() }
    ),
    'a key of its own along': foreign('ES256', {}, { jwk: allKeys[0] }),
    jku: foreign('ES256', {}, { jku: other.url }),
    crit: foreign('ES256', {}, { crit: ['exp'] }),
    'typ JWT': foreign('ES256', {}, { typ: 'JWT' }),
    'no kid': foreign('ES256', {}, { kid: undefined }),
    'kid unknown': foreign('ES256', {}, { kid: 'x' }),
    'kid __proto__': foreign('ES256', {}, { kid: '__proto__' }),
    'issuer unknown': foreign('ES256', { iss: 'https://login.example/' }),
    'issuer in other letters': foreign('ES256', { iss: 'https://LOGIN.example' }),
    'issuer in a list': foreign('ES256', { iss: [FOREIGN] }),
    'issuer missing': foreign('ES256', { iss: undefined }),
    expired: foreign('ES256', { iat: now() - 60, exp: now() - 1 }),
    'no expiry': foreign('ES256', { exp: undefined }),
    'too long a life': foreign('ES256', { exp: now() + 86_401 }),
    'from the future': foreign('ES256', { iat: now() + 60 }),
    'not yet': foreign('ES256', { nbf: now() + 60 }),
    'for others': foreign('ES256', { aud: 'others' }),
    'no subject': foreign('ES256', { sub: undefined }),
    'no jti': foreign('ES256', { jti: undefined }),
    'issuer twice': forgeWith('ES256', { alg: 'ES256', typ: 'at+jwt', kid: 'ES256' }, issuerTwice),
    cut: good.slice(0, -4),
    'four segments': `${good}.AAAA`,
    padding: `${good}=`
  }
  for (const [what, token] of Object.entries(bad)) {
    const { status, body: { request_id: _, ...body }, headers } = await ask(app, token)
    t.equal(status, 401, what)
    t.strictSame(
      body,
      {
        type: 'urn:marty:error:MARTY_CORE_CREDENTIAL_INVALID',
        title: 'Unauthorized',
        status: 401,
        detail: 'The credential is not valid',
        instance: '/who',
        code: 'MARTY_CORE_CREDENTIAL_INVALID'
      },
      what
    )
    t.equal(headers['www-authenticate'], 'Bearer error="invalid_token"', what)
  }
  t.equal(await statusOf(twoIssuers, good), 200)
  t.equal(
    await statusOf(twoIssuers, foreign('ES256', { iss: 'https://other.example' })),
    401,
    'the key of one issuer signs nothing of another'
  )
  t.throws(() => app.auth.tokens.verify(good), { code: 'MARTY_CORE_CREDENTIAL_INVALID' }, 'no token of this service')
})

t.test('single bad keys of a set are skipped, symmetric and private ones always', async t => {
  const provider = await provide(t)
  const app = await build(t, { trustedIssuers: [provider.options] })
  const named = (kid: string, pair: Pair = PAIRS.ES256, more: object = {}): object =>
    publicJwk(pair.publicKey, { kid, alg: 'ES256', ...more })
  const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const secret = Buffer.alloc(32, 1)
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const unnamed = publicJwk(PAIRS.RS256.publicKey, { kid: 'no-alg' })
  provider.answer = keySet(
    null,
    5,
    [],
    {},
    'x',
    named('good'),
    named('good', pairFor('ES256')),
    named('enc', PAIRS.ES256, { use: 'enc' }),
    named('ops', PAIRS.ES256, { key_ops: ['sign'] }),
    named('../x'),
    { ...named('x'), kid: 5 },
    named('p384', p384),
    { kty: 'oct', kid: 'oct', k: secret.toString('base64url'), alg: 'HS256' },
    { kty: 'oct', kid: 'oct2', k: secret.toString('base64url'), alg: 'ES256' },
    { ...PAIRS.ES256.privateKey.export({ format: 'jwk' }), kid: 'private', alg: 'ES256' },
    { ...named('off'), y: pairFor('ES256').publicKey.export({ format: 'jwk' }).y },
    publicJwk(PAIRS.RS256.publicKey, { kid: 'e1', alg: 'RS256', e: 'AQ' }),
    publicJwk(weak.publicKey, { kid: 'weak', alg: 'RS256' }),
    unnamed,
    publicJwk(PAIRS.EdDSA.publicKey, { kid: 'ed' })
  )
  const with_ = (kid: string): string => foreign('ES256', {}, { kid })
  t.equal(await statusOf(app, with_('good')), 200)
  for (const kid of ['enc', 'ops', '../x', 'private', 'off', 'p384']) t.equal(await statusOf(app, with_(kid)), 401, kid)
  for (const kid of ['oct', 'oct2']) {
    t.equal(
      await statusOf(app, forgeWith('HS256', { alg: 'HS256', typ: 'at+jwt', kid }, claims(), secret as never)),
      401,
      kid
    )
  }
  t.equal(await statusOf(app, foreign('RS256', {}, { kid: 'e1' })), 401)
  t.equal(await statusOf(app, foreign('RS256', {}, { kid: 'weak' })), 401)
  t.equal(await statusOf(app, foreign('EdDSA', {}, { kid: 'ed' })), 200, 'a key without "alg" has the one it fits')
  t.equal(await statusOf(app, foreign('RS256', {}, { kid: 'no-alg' })), 200)
  t.equal(await statusOf(app, foreign('PS256', {}, { kid: 'no-alg' })), 401, 'and only that one')
  t.equal(provider.asked, 1)
})

t.test('keys roll without a 401; a flood of unknown names asks once', async t => {
  const { advance } = clock(t)
  const provider = await provide(t)
  const app = await build(t, { trustedIssuers: [provider.options] })
  const next = pairFor('ES256')
  const tokenOfNext = (): string => foreign('ES256', {}, { kid: 'next' }, next.privateKey)
  t.equal(await statusOf(app, foreign('ES256')), 200)
  t.equal(provider.asked, 1)

  // Published, and used at once, before we have asked again on our own.
  advance(30_000)
  provider.answer = keySet(...allKeys, publicJwk(next.publicKey, { kid: 'next', alg: 'ES256' }))
  t.strictSame(
    await Promise.all(
      [tokenOfNext(), foreign('ES256'), tokenOfNext(), tokenOfNext()].map(async token => await statusOf(app, token))
    ),
    [200, 200, 200, 200]
  )
  t.equal(provider.asked, 2, 'one request for all who wait')

  // Withdrawn: refused once we have asked again, which known keys do in the background.
  provider.answer = keySet(publicJwk(next.publicKey, { kid: 'next', alg: 'ES256' }))
  advance(5 * MINUTE + 1)
  t.equal(await statusOf(app, foreign('ES256')), 200, 'answered from what is known')
  await until(() => provider.asked === 3, 'the background refresh')
  await until(async () => await statusOf(app, foreign('ES256')) === 401, 'the withdrawn key to be refused')
  t.equal(await statusOf(app, tokenOfNext()), 200)

  advance(30_000)
  const started = provider.asked
  for (let i = 0; i < 100; i++) {
    const statuses = await Promise.all(
      Array.from({ length: 100 }, async (_, j) => await statusOf(app, foreign('EdDSA', {}, { kid: `flood-${i}-${j}` })))
    )
    if (statuses.some(status => status !== 401)) t.fail(`flood answered ${statuses.join()}`)
    advance(100)
  }
  t.equal(provider.asked - started, 1, '10 000 unknown names in 10 s')
  t.equal(await statusOf(app, tokenOfNext()), 200)
})

t.test('during an outage known keys serve for ten minutes, then 503, and all is well after it', async t => {
  const { advance } = clock(t)
  const provider = await provide(t)
  const app = await build(t, { trustedIssuers: [provider.options] })
  const healthy = provider.answer
  t.equal(await statusOf(app, foreign('ES256')), 200)
  provider.answer = response => { response.socket?.destroy() }
  for (let minute = 0; minute < 10; minute++) {
    t.equal(await statusOf(app, foreign('ES256')), 200, `minute ${minute}`)
    advance(MINUTE - 500)
  }
  t.equal(await statusOf(app, foreign('ES256', {}, { kid: 'x' })), 401)
  advance(6_000)
  const { status, body, headers } = await ask(app, foreign('ES256'))
  t.equal(status, 503)
  t.match(body, { code: 'MARTY_AUTH_ISSUER_UNAVAILABLE' })
  t.equal(headers['retry-after'], '30')
  t.equal(await statusOf(app, app.auth.tokens.issue({ subject: 'alice' }).token), 200, 'our own tokens need nobody')
  provider.answer = healthy
  advance(30_000)
  t.equal(await statusOf(app, foreign('ES256')), 200)
})

t.test('an answer that is not a key set is no answer', async t => {
  const { advance } = clock(t)
  const provider = await provide(t)
  const elsewhere = await provide(t)
  const app = await build(t, { trustedIssuers: [provider.options] })
  const text =
    (body: string | Buffer, status = 200): Provider['answer'] =>
      response => {
        response.writeHead(status).end(body)
      }
  const good = JSON.stringify({ keys: allKeys })
  const answers: ReadonlyArray<readonly [string, Provider['answer']]> = [
    ['redirect', response => { response.writeHead(302, { location: elsewhere.url }).end() }],
    ['redirect with keys', response => { response.writeHead(301, { location: elsewhere.url }).end(good) }],
    ['error with keys', text(good, 500)],
    ['not found', text('', 404)],
    ['nothing', text('')],
    ['HTML', text('<html>')],
    ['garbage', text(randomBytes(2_000))],
    ['cut', text(good.slice(0, -2))],
    ['no set', text('[]')],
    ['keys an object', text('{"keys":{}}')],
    ['keys twice', text(`{"keys":[],"keys":${JSON.stringify(allKeys)}}`)],
    ['empty', text('{"keys":[]}')],
    ['only bad keys', text('{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}')],
    [
      '65 keys',
      text(JSON.stringify({ keys: Array.from({ length: 65 }, (_, index) => ({ ...allKeys[0], kid: `k${index}` })) }))
    ],
    ['more than 64 KiB', text(`${good}${' '.repeat(65_536)}`)],
    ['endless', response => {
      const more = (): void => { while (!response.destroyed && response.write(Buffer.alloc(16_384, ' '))); }
      response.on('drain', more)
      more()
    }],
    ['cut off', response => {
      response.writeHead(200, { 'content-length': '5000' }).write('{')
      setImmediate(() => { response.destroy() })
    }]
  ]
  for (const [what, answer] of answers) {
    provider.answer = answer
    const { status, body } = await ask(app, foreign('ES256'))
    t.match([status, body['code']], [503, 'MARTY_AUTH_ISSUER_UNAVAILABLE'], what)
    advance(30_000)
  }
  t.equal(provider.asked, answers.length)
  t.equal(elsewhere.asked, 0, 'redirects are not followed')
  provider.answer = text(good + ' '.repeat(65_536 - good.length))
  t.equal(await statusOf(app, foreign('ES256')), 200, '64 KiB to the byte')
})

t.test('a provider that is slow, silent or not itself is not waited for', async t => {
  const slow = await provide(t)
  slow.answer = response => {
    const timer = setInterval(() => { response.write(' ') }, 100)
    response.on('close', () => { clearInterval(timer) })
  }
  const silent = await provide(t)
  silent.answer = () => {}
  const untrusted = await provide(t)
  const closed = await provide(t, { jwksUrl: 'https://127.0.0.1:1/jwks' })
  const plain = await provide(t)
  const cases = {
    slow: slow.options,
    silent: silent.options,
    untrusted: { ...untrusted.options },
    wrongName: { ...plain.options, jwksUrl: plain.url.replace('127.0.0.1', 'localhost') },
    closed: closed.options
  }
  delete (cases.untrusted as { ca?: unknown }).ca
  await Promise.all(Object.entries(cases).map(async ([what, issuer]) => {
    const app = await build(t, { trustedIssuers: [issuer] })
    const answers = await Promise.all([foreign('ES256'), foreign('EdDSA')].map(async token => await ask(app, token)))
    for (const { status, body } of answers) {
      t.match([status, body['code']], [503, 'MARTY_AUTH_ISSUER_UNAVAILABLE'], what)
    }
  }))
  t.equal(untrusted.asked + plain.asked, 0, 'nothing is asked of a server that cannot prove its name')
  t.equal(slow.asked, 1)
  t.equal(silent.asked, 1)
})

t.test('closing ends a request that is under way', async t => {
  const provider = await provide(t)
  let gone = false
  provider.answer = (_, request) => { request.socket.on('close', () => { gone = true }) }
  const app = await build(t, { trustedIssuers: [provider.options] })
  const waiting = ask(app, foreign('ES256'))
  await until(() => provider.asked === 1, 'the request')
  const closing = app.close()
  t.equal((await waiting).status, 503)
  await closing
  await until(() => gone, 'the connection to be closed')
  const idle = await build(t, { trustedIssuers: [(await provide(t)).options] })
  await idle.close()
})

t.test('without trusted issuers, tokens of others are refused, also those that claim our issuer name', async t => {
  const app = await build(t)
  t.equal(await statusOf(app, foreign('ES256')), 401)
  const provider = await provide(t)
  const both = await build(t, { trustedIssuers: [provider.options] })
  const impostor = createTokenIssuer({ ...TOKENS, issuer: FOREIGN }).issue({ subject: 'alice', role: 'admin' }).token
  t.equal(await statusOf(both, impostor), 401, 'the local key signs nothing of another issuer')
})

t.test('a foreign token is exchanged for one of ours, while it is good', async t => {
  const provider = await provide(t, { rolesOf: () => ['viewer'] })
  const app = await build(t, { routes: true, trustedIssuers: [provider.options] })
  const exchange = async (assertion: string) =>
    await app.inject({ method: 'POST', url: '/auth/token', payload: { assertion } })
  for (const wrong of ['x', foreign('ES256', { exp: now() - 600 }), app.auth.tokens.issue({ subject: 'alice' }).token]) {
    t.equal((await exchange(wrong)).statusCode, 401)
  }
  const theirs = foreign('ES256', { jti: 'exchanged' })
  const answer = await exchange(theirs)
  t.equal(answer.statusCode, 200)
  t.match((await ask(app, answer.json<{ access_token: string }>().access_token)).body, {
    id: `${FOREIGN}|alice`,
    kind: 'user',
    roles: ['viewer'],
    authenticatedBy: 'jwt'
  })
  t.ok(answer.json<{ expires_in: number }>().expires_in <= 300, 'and ends with it')
  const principal = await app.guard.authenticate(theirs, { address: null, requestId: '1' })
  const exchanged = { ...principal, authenticatedBy: 'assertion' as const }
  t.equal(await app.guard.isAlive(exchanged), true)
  await app.auth.tokens.revoke(principal.session!, principal.expiresAt!)
  t.equal(await app.guard.isAlive(exchanged), false)
  t.equal((await exchange(theirs)).statusCode, 401, 'revoked')
})

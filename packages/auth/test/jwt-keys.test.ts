import t from 'tap'
import { createSecretKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import Fastify from 'fastify'
import { importJWK, jwtVerify, SignJWT, createLocalJWKSet } from 'jose'
import {
  auth,
  createTokenIssuer,
  createTokenVerifier,
  issueToken,
  jwksOf,
  type AuthOptions,
  type JwtKeyOptions,
  type JwtKeysOptions
} from '@marty/auth'
import { ALGORITHMS, ASYMMETRIC, forgeWith, pairFor, PAIRS, signingKey } from '@marty/testing/key-pairs'
import { AUDIENCE, bearer, ISSUER, now, SECRET, secretFor, TOKENS } from '@marty/testing/tokens'
import { build, forge, validClaims, validHeader } from './service.js'

const { ES256, EdDSA, RS256 } = PAIRS
const pem = (key: KeyObject): string =>
  key.export({ type: key.type === 'private' ? 'pkcs8' : 'spki', format: 'pem' }) as string
const jwk = (key: KeyObject): Record<string, unknown> => key.export({ format: 'jwk' })
const rsaJwk = (changes: object): Record<string, unknown> => ({ ...jwk(RS256.publicKey), ...changes })

/** A modulus as the generator of CVE-2017-15361 makes them: a power of 65537 modulo the product of the first primes. */
function rocaModulus (): string {
  const primes = [
    2n, 3n, 5n, 7n, 11n, 13n, 17n, 19n, 23n, 29n, 31n, 37n, 41n, 43n, 47n, 53n, 59n, 61n, 67n, 71n, 73n, 79n, 83n, 89n,
    97n, 101n, 103n, 107n, 109n, 113n, 127n, 131n, 137n, 139n, 149n, 151n, 157n, 163n, 167n
  ]
  const product = primes.reduce((a, b) => a * b)
  const modulus = ((1n << 2047n) / product + 1n) * product + 65_537n ** 12n % product
  return Buffer.from(modulus.toString(16), 'hex').toString('base64url')
}

const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const secp256k1 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' })
const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
const rsaPss = generateKeyPairSync('rsa-pss', { modulusLength: 2048 })
const encryption = { cipher: 'aes-256-cbc', passphrase: 'x' }
const encryptedPem = RS256.privateKey.export({ type: 'pkcs8', format: 'pem', ...encryption })
const otherPoint = jwk(pairFor('ES256').publicKey)
const previous = (key: object): object => ({
  keys: { signing: signingKey('ES256', 'now'), previous: [{ kid: 'old', ...key }] }
})
const signing = (key: object): object => ({ keys: { signing: { kid: 'k', ...key } } })
const secret = (text: string | Buffer): object => signing({ algorithm: 'HS256', secret: text })

const bad: ReadonlyArray<readonly [string, object]> = [
  // A key of another kind as an HMAC secret: CVE-2023-48223, CVE-2026-34950, GHSA-ww5h-9m49-7xx4, GHSA-g3jj-5cmm-3hxx.
  ...[
    pem(RS256.publicKey),
    ` \n${pem(RS256.publicKey)}`,
    `\u200bkey: ${pem(ES256.publicKey)}`,
    `${'#'.repeat(500)}\n${pem(RS256.publicKey)}`,
    pem(RS256.privateKey),
    pem(EdDSA.publicKey),
    RS256.publicKey.export({ type: 'pkcs1', format: 'pem' }) as string,
    '-----BEGIN CERTIFICATE-----\nAAAA',
    Buffer.from(pem(RS256.publicKey)),
    JSON.stringify(jwk(RS256.publicKey)),
    ` ${JSON.stringify(jwk(ES256.publicKey), null, 2)}`,
    `\uFEFF${JSON.stringify(jwk(EdDSA.publicKey))}`,
    JSON.stringify({ keys: [jwk(RS256.publicKey)] }),
    JSON.stringify([jwk(ES256.publicKey)]),
    `x = ${JSON.stringify(jwk(RS256.publicKey))}`,
    JSON.stringify(jwk(EdDSA.publicKey)).replace('"kty"', '"\\u006bty"'),
    RS256.publicKey.export({ type: 'spki', format: 'der' }),
    RS256.publicKey.export({ type: 'pkcs1', format: 'der' }),
    RS256.privateKey.export({ type: 'pkcs8', format: 'der' }),
    ES256.publicKey.export({ type: 'spki', format: 'der' })
  ].map(text => ['keys.signing.secret', secret(text)] as const),
  ['keys.signing.secret', signing({ algorithm: 'HS256', privateKey: RS256.privateKey })],
  ['keys.signing.secret', signing({ algorithm: 'RS256', secret: SECRET })],
  ['keys.signing.secret', signing({ algorithm: 'ES256', secret: SECRET, privateKey: ES256.privateKey })],
  // Another type, curve or half.
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: p384.privateKey })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: secp256k1.privateKey })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: RS256.privateKey })],
  ['keys.signing.privateKey', signing({ algorithm: 'EdDSA', privateKey: ES256.privateKey })],
  ['keys.signing.privateKey', signing({ algorithm: 'EdDSA', privateKey: generateKeyPairSync('ed448').privateKey })],
  ['keys.signing.privateKey', signing({ algorithm: 'EdDSA', privateKey: generateKeyPairSync('x25519').privateKey })],
  ['keys.signing.privateKey', signing({ algorithm: 'RS256', privateKey: EdDSA.privateKey })],
  ['keys.signing.privateKey', signing({ algorithm: 'RS256', privateKey: weak.privateKey })],
  ['keys.signing.privateKey', signing({ algorithm: 'PS256', privateKey: rsaPss.privateKey })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: ES256.publicKey })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: createSecretKey(Buffer.alloc(32)) })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: pem(ES256.publicKey) })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: jwk(ES256.publicKey) })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: encryptedPem })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: { kty: 'oct', k: 'AAAA' } })],
  [
    'keys.signing.privateKey',
    signing({ algorithm: 'ES256', privateKey: { ...jwk(ES256.privateKey), x: otherPoint['x'] } })
  ],
  [
    'keys.signing.privateKey',
    signing({ algorithm: 'EdDSA', privateKey: { ...jwk(ES256.privateKey), crv: 'Ed25519' } })
  ],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: null })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', privateKey: 5 })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256' })],
  ['keys.signing.privateKey', signing({ algorithm: 'ES256', publicKey: ES256.publicKey })],
  ['keys.signing.algorithm', signing({ algorithm: ['ES256'], privateKey: ES256.privateKey })],
  ['keys.signing.algorithm', signing({ algorithm: 'ES384', privateKey: p384.privateKey })],
  // What a JWK says it is for.
  ['"use"', signing({ algorithm: 'ES256', privateKey: { ...jwk(ES256.privateKey), use: 'enc' } })],
  ['"key_ops"', signing({ algorithm: 'ES256', privateKey: { ...jwk(ES256.privateKey), key_ops: ['verify'] } })],
  ['"key_ops"', signing({ algorithm: 'ES256', privateKey: { ...jwk(ES256.privateKey), key_ops: 'sign' } })],
  ['"alg"', signing({ algorithm: 'PS256', privateKey: { ...jwk(RS256.privateKey), alg: 'RS256' } })],
  // Keys that only verify.
  ['keys.previous[0].publicKey', previous({ algorithm: 'ES256', publicKey: ES256.privateKey })],
  ['keys.previous[0].publicKey', previous({ algorithm: 'ES256', publicKey: pem(ES256.privateKey) })],
  ['keys.previous[0].publicKey', previous({ algorithm: 'ES256', publicKey: jwk(ES256.privateKey) })],
  ['keys.previous[0].publicKey', previous({ algorithm: 'ES256', publicKey: 'PRIVATE KEY' })],
  [
    'keys.previous[0].publicKey',
    previous({ algorithm: 'ES256', publicKey: { ...jwk(ES256.publicKey), y: otherPoint['y'] } })
  ],
  ['public exponent', previous({ algorithm: 'RS256', publicKey: rsaJwk({ e: 'AQ' }) })],
  ['public exponent', previous({ algorithm: 'RS256', publicKey: rsaJwk({ e: 'Ag' }) })],
  ['modulus of 1024', previous({ algorithm: 'RS256', publicKey: weak.publicKey })],
  [
    'modulus of 16384',
    previous({ algorithm: 'PS256', publicKey: rsaJwk({ n: Buffer.alloc(2_048, 0xff).toString('base64url') }) })
  ],
  ['CVE-2017-15361', previous({ algorithm: 'RS256', publicKey: rsaJwk({ n: rocaModulus() }) })],
  ['keys.previous[0].algorithm', previous({ algorithm: 'HS256', secret: SECRET })],
  [
    'keys.previous[0].algorithm',
    { keys: { signing: signingKey('HS256', 'now'), previous: [signingKey('RS256', 'old')] } }
  ],
  ['keys.previous[0].kid', { keys: { signing: signingKey('ES256', 'a'), previous: [signingKey('ES256', 'a')] } }],
  ['keys.previous[0]', { keys: { signing: signingKey('ES256', 'a'), previous: [null] } }]
]

t.test('a key that does not fit its algorithm stops the start, by name and without its text', async t => {
  for (const [field, changes] of bad) {
    const app = Fastify()
    t.teardown(() => app.close())
    const error = await Promise.resolve(app.register(auth, { ...TOKENS, ...changes } as AuthOptions)).then(
      () => null,
      (error: unknown) => error as Error & { code: string }
    )
    t.equal(error?.code, 'MARTY_AUTH_OPT_INVALID', field)
    t.ok(error?.message.includes(field), `${field}: ${error?.message}`)
    t.notMatch(error?.message, /BEGIN|MII|"d":|thirty-two bytes/)
    t.equal(error?.cause, undefined)
  }
})

t.test('every algorithm: our tokens are accepted here and by jose, and those of jose here', async t => {
  for (const alg of ALGORITHMS) {
    const options: AuthOptions = { ...TOKENS, keys: { signing: signingKey(alg) } }
    const app = await build(t, options)
    const { token } = app.auth.tokens.issue({ subject: 'alice', roles: ['operator', 'viewer'], scopes: ['media'] })
    t.match(
      (await app.inject({ url: '/who', headers: bearer(token) })).json(),
      { id: 'alice', roles: ['operator', 'viewer'] },
      alg
    )
    t.match(createTokenVerifier(options)(token), { sub: 'alice' })

    const keys = alg === 'HS256' ? Buffer.from(SECRET) : createLocalJWKSet(jwksOf(options.keys) as never)
    const { payload, protectedHeader } = await jwtVerify(token, keys as never, {
      issuer: ISSUER,
      audience: AUDIENCE,
      typ: 'at+jwt',
      algorithms: [alg]
    })
    t.match(payload, { sub: 'alice', user_id: 'alice', role: 'operator' })
    t.strictSame(protectedHeader, { alg, typ: 'at+jwt', kid: 'k1' })

    const private_ = alg === 'HS256' ? Buffer.from(SECRET) : await importJWK(jwk(PAIRS[alg].privateKey) as never, alg)
    const theirs = await new SignJWT({ role: 'viewer' })
      .setProtectedHeader({ typ: 'at+jwt', kid: 'k1', alg })
      .setIssuer(ISSUER)
      .setAudience(AUDIENCE)
      .setSubject('bob')
      .setIssuedAt()
      .setExpirationTime('5m')
      .setJti('j')
      .sign(private_)
    for (let i = 0; i < 2; i++) {
      t.match(
        (await app.inject({ url: '/who', headers: bearer(theirs) })).json(),
        { id: 'bob', roles: ['viewer'] },
        `${alg} of jose`
      )
    }
  }
})

t.test('a key may be given as KeyObject, PEM (also PKCS 1 and SEC 1) or JWK, and its public half verifies', async t => {
  const forms: ReadonlyArray<readonly [JwtKeyOptions['algorithm'], KeyObject, unknown]> = [
    ...ASYMMETRIC.flatMap(alg =>
      [
        PAIRS[alg].privateKey,
        pem(PAIRS[alg].privateKey),
        jwk(PAIRS[alg].privateKey),
        { ...jwk(PAIRS[alg].privateKey), use: 'sig', key_ops: ['sign'], alg, kid: 'another' }
      ].map(form => [alg, PAIRS[alg].publicKey, form] as const)
    ),
    ['RS256', RS256.publicKey, RS256.privateKey.export({ type: 'pkcs1', format: 'pem' })],
    ['ES256', ES256.publicKey, ES256.privateKey.export({ type: 'sec1', format: 'pem' })]
  ]
  for (const [algorithm, publicKey, form] of forms) {
    const { token } = issueToken(
      { ...TOKENS, keys: { signing: { kid: 'k', algorithm, privateKey: form } as JwtKeyOptions } },
      { subject: 'alice' }
    )
    for (const half of [
      publicKey,
      pem(publicKey),
      jwk(publicKey),
      { ...jwk(publicKey), use: 'sig', key_ops: ['verify'] }
    ]) {
      const keys = {
        signing: signingKey('ES256', 'now'),
        previous: [{ kid: 'k', algorithm, publicKey: half }]
      } as JwtKeysOptions
      t.match(createTokenVerifier({ ...TOKENS, keys })(token), { sub: 'alice' }, algorithm)
    }
  }
})

t.test('the same RSA key serves two algorithms only under two names', async t => {
  const keys: JwtKeysOptions = {
    signing: { kid: 'rs', algorithm: 'RS256', privateKey: RS256.privateKey },
    previous: [{ kid: 'ps', algorithm: 'PS256', privateKey: RS256.privateKey }]
  }
  const verify = createTokenVerifier({ ...TOKENS, keys })
  const head = (alg: string, kid: string): object => ({ alg, kid, typ: 'at+jwt' })
  t.match(verify(forgeWith('PS256', head('PS256', 'ps'), validClaims(), RS256.privateKey)), { sub: 'alice' })
  t.throws(() => verify(forgeWith('PS256', head('PS256', 'rs'), validClaims(), RS256.privateKey)), {
    code: 'MARTY_CORE_CREDENTIAL_INVALID',
    cause: 'token check failed: alg'
  })
  t.throws(() => verify(forgeWith('PS256', head('RS256', 'rs'), validClaims(), RS256.privateKey)), {
    cause: 'token check failed: signature'
  })
})

t.test('public keys are published, symmetric ones never', async t => {
  const keys: JwtKeysOptions = {
    signing: signingKey('RS256', 'a'),
    previous: [signingKey('ES256', 'b'), { kid: 'c', algorithm: 'EdDSA', publicKey: EdDSA.publicKey }]
  }
  const app = await build(t, { routes: true, keys })
  const answer = await app.inject('/.well-known/jwks.json')
  t.equal(answer.statusCode, 200)
  t.match(answer.headers['content-type'], /^application\/jwk-set\+json/)
  t.equal(answer.headers['cache-control'], 'public, max-age=300')
  const { keys: [a, b, c, ...rest] } = answer.json<{ keys: Array<Record<string, unknown>> }>()
  t.strictSame(rest, [])
  t.strictSame(a, { ...jwk(RS256.publicKey), kid: 'a', alg: 'RS256', use: 'sig' })
  t.strictSame(b, { ...jwk(ES256.publicKey), kid: 'b', alg: 'ES256', use: 'sig' })
  t.strictSame(c, { ...jwk(EdDSA.publicKey), kid: 'c', alg: 'EdDSA', use: 'sig' })
  t.notMatch(answer.body, /"(d|p|q|dp|dq|qi|k)":/)

  t.strictSame(jwksOf(TOKENS.keys), { keys: [] })
  t.equal((await (await build(t, { routes: true })).inject('/.well-known/jwks.json')).statusCode, 404)
  t.equal((await (await build(t, { keys })).inject('/.well-known/jwks.json')).statusCode, 404, 'nor without routes')
})

t.test('@fastify/jwt works with every algorithm as its users know it', async t => {
  for (const alg of ALGORITHMS) {
    const app = await build(t, { keys: { signing: signingKey(alg) } })
    t.ok(app.hasPlugin('@fastify/jwt'))
    t.notMatch(
      JSON.stringify(app.jwt),
      /PRIVATE|thirty-two bytes|unguarded/,
      'nothing that signs or verifies without the verifier is visible'
    )
    const open = { config: { security: { public: true } } } as const
    app.get('/user', open, async request => { await request.jwtVerify(); return request.user })
    app.get('/callback', open, (request, reply) => {
      request.jwtVerify((error, user) => {
        void reply.send(error ?? user)
      })
    })
    app.get('/strict', open, async request => await request.jwtVerify({ allowedSub: 'alice', maxAge: '1h' }))
    app.get('/nested', open, async request => await request.jwtVerify({ decode: {}, verify: { allowedSub: 'alice' } }))
    app.get(
      '/query',
      open,
      async request =>
        await request.jwtVerify({
          extractToken: (request: { query: { token?: string } }) => request.query.token
        } as never)
    )
    app.get('/decode', open, async request => await request.jwtDecode({ decode: { complete: true }, verify: {} }))
    app.get('/sign', open, async (_, reply) => ({
      plain: await reply.jwtSign({ sub: 'alice' }),
      flat: await reply.jwtSign({ sub: 'alice' }, {
        expiresIn: '1m',
        header: { alg: 'none', cty: 'x' },
        algorithm: 'HS512',
        key: 'stolen',
        kid: 'k9'
      } as never),
      nested: await reply.jwtSign({ sub: 'alice' }, { sign: { expiresIn: 120 } }),
      callback: await new Promise<string>((resolve, reject) => {
        reply.jwtSign({ sub: 'alice' }, {}, (error, token) => {
          if (error === null) resolve(token!)
          else reject(error)
        })
      })
    }))

    const token = app.jwt.sign({ sub: 'alice', role: 'viewer' })
    for (const url of ['/user', '/callback', '/strict', '/nested', `/query?token=${token}`]) {
      t.match(
        (await app.inject({ url, headers: bearer(token) })).json(),
        { sub: 'alice', role: 'viewer', jti: String },
        `${alg} ${url}`
      )
    }
    t.match((await app.inject({ url: '/decode', headers: bearer(token) })).json(), {
      header: { alg, typ: 'at+jwt', kid: 'k1' },
      payload: { sub: 'alice' }
    })
    t.equal(app.jwt.lookupToken({ raw: { headers: bearer(token) } } as never), token)
    const bob = app.jwt.sign({ sub: 'bob' })
    for (const url of ['/strict', '/nested', '/query']) {
      const answer = await app.inject({ url, headers: bearer(bob) })
      t.match(
        [answer.statusCode, answer.json()],
        [401, { code: url === '/query' ? 'MARTY_CORE_UNAUTHENTICATED' : 'MARTY_CORE_CREDENTIAL_INVALID' }],
        `${alg} ${url}`
      )
      t.match(answer.headers['www-authenticate'], /^Bearer/)
    }
    const none = await app.inject({ url: '/decode', headers: bearer('x.y') })
    t.match([none.statusCode, none.headers['www-authenticate']], [401, 'Bearer error="invalid_token"'])
    t.equal((await app.inject({ url: '/callback', headers: bearer('x') })).statusCode, 401)

    const signed = (await app.inject('/sign')).json<Record<string, string>>()
    const ids = new Set<unknown>()
    for (const [how, made] of Object.entries(signed)) {
      t.equal((await app.inject({ url: '/who', headers: bearer(made) })).statusCode, 200, `${alg} ${how}`)
      ids.add(app.jwt.decode<{ jti: string }>(made)?.jti)
    }
    t.equal(ids.size, 4, 'each with its own jti')
    const { exp, iat } = app.jwt.decode<{ exp: number, iat: number }>(signed['flat']!)!
    t.equal(exp - iat, 60)

    t.match(app.jwt.verify(token, { allowedSub: 'alice' }), { sub: 'alice' })
    t.throws(() => app.jwt.verify(token, { allowedSub: 'bob' }), { code: 'MARTY_CORE_CREDENTIAL_INVALID' })
    t.throws(
      () => app.jwt.verify(token, { key: 'another', algorithms: ['HS256'], allowedIss: 'https://attacker.test' }),
      { code: 'MARTY_CORE_CREDENTIAL_INVALID' }
    )
    app.jwt.verify('x.y.z', error => { t.match(error, { code: 'MARTY_CORE_CREDENTIAL_INVALID' }) })
    app.jwt.sign({ sub: 'a' }, { expiresIn: 5 }, (_, made) => { t.match(app.jwt.verify(made!), { sub: 'a' }) })
    for (const nonsense of [null, undefined, '', 5, {}, [], 'a.b.c', Buffer.from(token)]) {
      t.throws(() => app.jwt.verify(nonsense as string), { code: 'MARTY_CORE_CREDENTIAL_INVALID' })
      if (!Buffer.isBuffer(nonsense)) {
        t.throws(() => app.jwt.decode(nonsense as string), { code: 'MARTY_CORE_CREDENTIAL_INVALID' })
      }
    }
    t.throws(() => app.jwt.sign('text'), 'a token without claims is nothing we make')
  }
})

t.test('a cached token is checked for expiry and revocation at each use, and its cached claims cannot be changed', async t => {
  const app = await build(t)
  const short = app.auth.tokens.issue({ subject: 'alice', ttlSeconds: 1 })
  const context = { address: null, requestId: '1' }
  const principal = await app.guard.authenticate(short.token, context)
  t.equal(await app.guard.authenticate(short.token, context), principal, 'the same principal: it was remembered')
  t.ok(
    Object.isFrozen(principal) &&
        Object.isFrozen(principal.roles) &&
        Object.isFrozen(principal.scopes) &&
        Object.isFrozen(principal.claims)
  )
  const realNow = Date.now
  t.teardown(() => { Date.now = realNow })
  Date.now = () => realNow() + 1_500
  await t.rejects(app.guard.authenticate(short.token, context), { code: 'MARTY_CORE_CREDENTIAL_INVALID' })
  Date.now = realNow

  const long = app.auth.tokens.issue({ subject: 'alice' })
  const before = await app.guard.authenticate(long.token, context)
  app.auth.tokens.revoke(long.jti, long.expiresAt)
  await t.rejects(app.guard.authenticate(long.token, context), { code: 'MARTY_CORE_CREDENTIAL_INVALID' })
  t.equal(await app.guard.isAlive(before), false)
  t.strictSame(before.scopes, [])

  // More than are remembered: the first is forgotten, and still good.
  const first = app.auth.tokens.issue({ subject: 'first' }).token
  const known = await app.guard.authenticate(first, context)
  for (let i = 0; i < 2_001; i++) {
    await app.guard.authenticate(app.auth.tokens.issue({ subject: `s${i}` }).token, context)
  }
  const again = await app.guard.authenticate(first, context)
  t.not(again, known)
  t.strictSame(again, known)
})

t.test('many headers of one key are all read', async t => {
  const verify = createTokenVerifier(TOKENS)
  for (let i = 0; i < 100; i++) t.match(verify(forge({ ...validHeader(), note: i }, validClaims())), { sub: 'alice' })
  t.throws(() => verify(forge({ ...validHeader(), note: 1 }, validClaims(), secretFor('another secret'))), {
    cause: 'token check failed: signature'
  })
})

t.test('tokens say to which session and client they belong, and when they begin', async t => {
  const earliest = now() + 2
  const { issue } = createTokenIssuer(TOKENS, subject => subject === 'alice' ? earliest : 0)
  const verify = createTokenVerifier(TOKENS)
  const { token, expiresAt } = issue({ subject: 'alice', sessionId: 'family', clientId: 'key-1', ttlSeconds: 60 })
  t.match(verify(token), { sid: 'family', client_id: 'key-1', iat: earliest, exp: earliest + 60 })
  t.equal(expiresAt, (earliest + 60) * 1000)
  t.ok(verify(issue({ subject: 'bob' }).token).iat < earliest)
  t.notOk('sid' in verify(issue({ subject: 'bob' }).token))
  for (const name of ['sessionId', 'clientId']) {
    t.throws(() => issue({ subject: 'a', [name]: '' }), {
      code: 'MARTY_AUTH_REQUEST_INVALID',
      message: new RegExp(name)
    })
  }
  for (const name of ['sid', 'client_id']) {
    t.throws(() => verify(forge(validHeader(), { ...validClaims(), [name]: 5 })), {
      cause: `token check failed: ${name}`
    })
  }
})

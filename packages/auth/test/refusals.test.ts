import t from 'tap'
import { generateKeyPairSync, sign } from 'node:crypto'
import { AUDIENCE, bearer, encode, ISSUER, now, SECRET, secretFor } from '@marty/testing/tokens'
import { build, forge, REFUSAL, validClaims, validHeader } from './service.js'

const header = (changes: Record<string, unknown>): Record<string, unknown> => ({ ...validHeader(), ...changes })
const claims = (changes: Record<string, unknown>): Record<string, unknown> => ({ ...validClaims(), ...changes })
const without = (name: string): Record<string, unknown> => {
  const rest = validClaims()
  delete rest[name]
  return rest
}
const withHeader = (changes: Record<string, unknown>): string => forge(header(changes), validClaims())
const withClaims = (changes: Record<string, unknown>): string => forge(validHeader(), claims(changes))
const good = (): string => forge(validHeader(), validClaims())
const text = (object: Record<string, unknown>, extra: string): string =>
  JSON.stringify(object).slice(0, -1) + extra + '}'

function rs256 (head: Record<string, unknown>): string {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const input = `${encode(head)}.${encode(validClaims())}`
  return `${input}.${sign('sha256', Buffer.from(input), privateKey).toString('base64url')}`
}

function respell (token: string): string {
  // Same bytes, other spelling: the last character of a 32-byte signature has two spare bits.
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return token.slice(0, -1) + alphabet[alphabet.indexOf(token.at(-1)!) + 1]!
}

const refused: Record<string, string> = {
  'alg none, unsigned': `${encode(header({ alg: 'none' }))}.${encode(validClaims())}.`,
  'alg none, signed': withHeader({ alg: 'none' }),
  'alg nOnE, unsigned': `${encode(header({ alg: 'nOnE' }))}.${encode(validClaims())}.`,
  'alg missing': forge({ typ: 'at+jwt', kid: 'k1' }, validClaims()),
  'alg hs256': withHeader({ alg: 'hs256' }),
  'alg as a list': withHeader({ alg: ['HS256'] }),
  'alg __proto__': withHeader({ alg: '__proto__' }),
  'HS512 with the same secret': forge(header({ alg: 'HS512' }), validClaims(), SECRET, 'sha512'),
  'HS512 signature under alg HS256': forge(validHeader(), validClaims(), SECRET, 'sha512'),
  'RS256 on an HS256 service': rs256(header({ alg: 'RS256' })),
  'RS256 signature under alg HS256': rs256(validHeader()),
  crit: withHeader({ crit: ['exp'] }),
  'crit with b64': withHeader({ crit: ['b64'], b64: false }),
  'b64 false': withHeader({ b64: false }),
  'b64 true': withHeader({ b64: true }),
  zip: withHeader({ zip: 'DEF' }),
  jku: withHeader({ jku: 'https://attacker.test/jwks.json' }),
  x5u: withHeader({ x5u: 'https://attacker.test/cert.pem' }),
  jwk: withHeader({ jwk: { kty: 'oct', k: 'AAAA' } }),
  x5c: withHeader({ x5c: ['AAAA'] }),
  'typ refresh': withHeader({ typ: 'refresh+jwt' }),
  'typ JWT': withHeader({ typ: 'JWT' }),
  'typ missing': forge({ alg: 'HS256', kid: 'k1' }, validClaims()),
  'typ not a string': withHeader({ typ: 1 }),
  'kid missing': forge({ alg: 'HS256', typ: 'at+jwt' }, validClaims()),
  'kid unknown': withHeader({ kid: 'k2' }),
  'kid a path': withHeader({ kid: '../../dev/null' }),
  'kid __proto__': withHeader({ kid: '__proto__' }),
  'kid a number': withHeader({ kid: 1 }),
  'kid empty': withHeader({ kid: '' }),
  'kid over-long': withHeader({ kid: 'k'.repeat(65) }),
  'header an array': forge([validHeader()], validClaims()),
  'header null': forge('null', validClaims()),
  'header not JSON': forge('{', validClaims()),
  'header over 1 KiB': withHeader({ note: 'x'.repeat(1024) }),
  'header deeper than 8': withHeader({ note: [[[[[[[[1]]]]]]]] }),
  'header with a byte order mark': forge('\uFEFF' + JSON.stringify(validHeader()), validClaims()),
  'header with alg twice': forge(text(validHeader(), ',"alg":"none"'), validClaims()),
  'header with alg twice, escaped': forge(text(validHeader(), ',"\\u0061lg":"HS256"'), validClaims()),
  'payload with sub twice': forge(validHeader(), text(validClaims(), ',"sub":"admin"')),
  'payload with a key twice, nested': forge(validHeader(), text(validClaims(), ',"note":[{"a":1,"b":{},"a" : 2}]')),
  'payload with __proto__': forge(validHeader(), text(validClaims(), ',"__proto__":{"role":"admin"}')),
  'payload with constructor': forge(validHeader(), text(validClaims(), ',"constructor":{"prototype":{}}')),
  'payload an array': forge(validHeader(), [validClaims()]),
  'payload a string': forge(validHeader(), '"alice"'),
  'payload null': forge(validHeader(), 'null'),
  'payload not JSON': forge(validHeader(), 'alice'),
  'payload empty': forge(validHeader(), ''),
  'payload deeper than 8': withClaims({ note: { a: { a: { a: { a: { a: { a: { a: { a: 1 } } } } } } } } }),
  'payload not UTF-8': `${good().split('.')[0]!}.${Buffer.from([0x7b, 0xff, 0x7d]).toString('base64url')}.AAAA`,
  'exp a string': withClaims({ exp: String(now() + 60) }),
  'exp null': withClaims({ exp: null }),
  'exp 1e308': forge(validHeader(), JSON.stringify(claims({ exp: 0 })).replace('"exp":0', '"exp":1e308')),
  'exp beyond 2^53': withClaims({ exp: 2 ** 53 }),
  'exp a fraction': withClaims({ exp: now() + 60.5 }),
  'exp negative': withClaims({ exp: -1 }),
  'exp in the past': withClaims({ iat: now() - 60, exp: now() - 1 }),
  'exp now': withClaims({ iat: now() - 60, exp: now() }),
  'exp before iat': withClaims({ iat: now() + 20, exp: now() + 10 }),
  'iat in the future': withClaims({ iat: now() + 120, exp: now() + 180 }),
  'iat a string': withClaims({ iat: String(now()) }),
  'nbf in the future': withClaims({ nbf: now() + 120 }),
  'nbf a string': withClaims({ nbf: String(now()) }),
  'nbf null': withClaims({ nbf: null }),
  'lifetime beyond the maximum': withClaims({ exp: now() + 86_401 }),
  'sub a number': withClaims({ sub: 1, user_id: 1 }),
  'sub empty': withClaims({ sub: '', user_id: '' }),
  'sub over-long': withClaims({ sub: 'a'.repeat(257), user_id: 'a'.repeat(257) }),
  'user_id of somebody else': withClaims({ user_id: 'admin' }),
  'jti a number': withClaims({ jti: 1 }),
  'role a number': withClaims({ role: 1 }),
  'roles not a list': withClaims({ roles: 'admin' }),
  'roles of objects': withClaims({ roles: [{}] }),
  'role not among roles': withClaims({ role: 'admin', roles: ['viewer'] }),
  'scope a list': withClaims({ scope: ['a'] }),
  'kind unknown': withClaims({ kind: 'root' }),
  'another issuer': withClaims({ iss: 'https://attacker.test' }),
  'issuer in a list': withClaims({ iss: [ISSUER] }),
  'another audience': withClaims({ aud: 'another-service' }),
  'audience among non-strings': withClaims({ aud: [AUDIENCE, 1] }),
  'audience list without us': withClaims({ aud: ['a', 'b'] }),
  'audience an empty list': withClaims({ aud: [] }),
  ...Object.fromEntries(
    ['iss', 'aud', 'sub', 'exp', 'iat', 'jti'].map(name => [`${name} missing`, forge(validHeader(), without(name))])
  ),
  'signed with another secret': forge(validHeader(), validClaims(), secretFor('another secret')),
  'signature altered': good().slice(0, -3) + (good().at(-3) === 'A' ? 'B' : 'A') + good().slice(-2),
  'signature spelt otherwise': respell(good()),
  'signature empty': good().replace(/[^.]*$/, ''),
  'signature cut': good().slice(0, -4),
  'payload altered': good()
    .split('.')
    .map((part, index) => (index === 1 ? encode(claims({ role: 'admin' })) : part))
    .join('.'),
  'trailing =': `${good()}=`,
  'trailing dot': `${good()}.`,
  'four segments': `${good()}.AAAA`,
  'two segments': good().split('.').slice(0, 2).join('.'),
  'five segments (JWE)': 'a.b.c.d.e',
  'empty header': good().replace(/^[^.]*/, ''),
  'a space inside': good().replace('.', '. '),
  'two spaces before': ` ${good()}`,
  'plain base64': good().replace(/[-_]?$/, '+'),
  'no token': '',
  'a word': 'token',
  'over 8 KiB': withClaims({ note: 'x'.repeat(9_000) }),
  'a session that never was': `ses_${'A'.repeat(43)}`,
  'a session of another form': 'ses_x',
  'an API key where none are accepted': 'cam_test_000000000000_0000000000000000000000000000000000000000000_000000',
  'bytes beyond ASCII': 'é.é.é',
  'prototype words': '__proto__.constructor.toString'
}

t.test('every bad token gets one and the same 401', async t => {
  const app = await build(t)
  t.equal(
    (await app.inject({ url: '/who', headers: bearer(good()) })).statusCode,
    200,
    'the token they are made from is good'
  )
  for (const [what, token] of Object.entries(refused)) {
    const answer = await app.inject({ url: '/who', headers: bearer(token) })
    t.equal(answer.statusCode, 401, what)
    t.equal(answer.headers['www-authenticate'], 'Bearer error="invalid_token"', what)
    t.match(answer.headers['content-type'], 'application/problem+json', what)
    const { request_id: id, ...body } = answer.json<Record<string, unknown>>()
    t.type(id, 'string')
    t.strictSame(body, REFUSAL, what)
  }
})

t.test('every bad token gets 401 from jwtVerify too, and nothing but that error from fastify.jwt.verify', async t => {
  const app = await build(t)
  app.get('/plain', { config: { security: { public: true } } }, async request => await request.jwtVerify())
  t.equal((await app.inject({ url: '/plain', headers: bearer(good()) })).statusCode, 200)
  for (const [what, token] of Object.entries(refused)) {
    const answer = await app.inject({ url: '/plain', headers: bearer(token) })
    t.equal(answer.statusCode, 401, what)
    t.match(answer.json(), { code: 'MARTY_CORE_CREDENTIAL_INVALID' }, what)
    t.throws(() => app.jwt.verify(token), { code: 'MARTY_CORE_CREDENTIAL_INVALID' }, what)
    t.throws(() => app.auth.tokens.verify(token), { code: 'MARTY_CORE_CREDENTIAL_INVALID' }, what)
  }
  const none = await app.inject('/plain')
  t.equal(none.statusCode, 401)
  t.match(none.json(), { code: 'MARTY_CORE_UNAUTHENTICATED' })
})

t.test('two credentials at once are refused; another scheme is no credential', async t => {
  const app = await build(t)
  const key = 'cam_test_x'
  for (const headers of [
    { ...bearer(good()), 'x-api-key': key },
    { authorization: 'Basic YTpi', 'x-api-key': key },
    { ...bearer(good()), 'x-api-key': '' },
    { authorization: 'bearer' },
    { authorization: 'BEARER\tx' }
  ]) {
    const answer = await app.inject({ url: '/who', headers })
    t.equal(answer.statusCode, 401)
    t.equal(answer.headers['www-authenticate'], 'Bearer error="invalid_token"', JSON.stringify(Object.keys(headers)))
  }
  const basic = await app.inject({ url: '/who', headers: { authorization: 'Basic YTpi' } })
  t.equal(basic.statusCode, 401)
  t.equal(basic.headers['www-authenticate'], 'Bearer')
  t.equal(
    (await app.inject({ url: '/who', headers: { authorization: `bearer ${good()}` } })).statusCode,
    200,
    'the scheme in any case (RFC 9110 section 11.1)'
  )
})

import t from 'tap'
import fc from 'fast-check'
import { createHmac, sign } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { JwtAlgorithmName } from '@marty/auth'
import { ALGORITHMS, ASYMMETRIC, forgeWith, pairFor, PAIRS, signatureOf, signingKey } from '@marty/testing/key-pairs'
import { bearer, encode } from '@marty/testing/tokens'
import { build, validClaims } from './service.js'

const RUNS = 1_000
const header = (alg: JwtAlgorithmName): Record<string, unknown> => ({ alg, typ: 'at+jwt', kid: 'k1' })

/** Every refusal is this one, on a route of the guard and from `jwtVerify` alike. */
async function assertRefused (app: FastifyInstance, token: unknown): Promise<void> {
  for (const url of ['/who', '/plain']) {
    const answer = await app.inject({ url, headers: { authorization: `Bearer ${token as string}` } })
    const { request_id: id, instance, ...body } = answer.json<Record<string, unknown>>()
    const same = typeof id === 'string' && instance === url && answer.statusCode === 401 &&
      answer.headers['www-authenticate'] === 'Bearer error="invalid_token"' &&
      answer.headers['content-type'] === 'application/problem+json; charset=utf-8' &&
      JSON.stringify(body) ===
        ('{"type":"urn:marty:error:MARTY_CORE_CREDENTIAL_INVALID","title":"Unauthorized","status":401,"detail":"The ' +
          'credential is not valid","code":"MARTY_CORE_CREDENTIAL_INVALID"}')
    if (!same) throw new Error(`${url} answered ${answer.statusCode} ${answer.body}`)
  }
}

for (const alg of ALGORITHMS) {
  t.test(`${alg}: no mutation of a valid token passes, or is told from any other`, async t => {
    const app = await build(t, { keys: { signing: signingKey(alg) } })
    app.get('/plain', { config: { security: { public: true } } }, async request => await request.jwtVerify())
    const valid = app.auth.tokens.issue({ subject: 'alice', role: 'viewer' }).token
    for (const url of ['/who', '/plain']) {
      t.equal(
        (await app.inject({ url, headers: bearer(valid) })).statusCode,
        200,
        'the token they are made from is good'
      )
    }

    const segments = valid.split('.')
    const at = fc.nat(valid.length - 1)
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    const replaced = (index: number, text: string): string =>
      segments.map((segment, i) => (i === index ? text : segment)).join('.')
    const signed = (head: unknown, payload: unknown): string => forgeWith(alg, head, payload)
    const claims = validClaims()
    const text = (object: object, extra: string): string => JSON.stringify(object).slice(0, -1) + extra + '}'
    const mutation = fc.oneof(
      // One bit, one character, a hole, anything inserted: NUL, line ends, beyond ASCII.
      fc
        .record({ at, bit: fc.nat(6) })
        .map(
          ({ at, bit }) =>
            valid.slice(0, at) + String.fromCharCode(valid.charCodeAt(at) ^ (1 << bit)) + valid.slice(at + 1)
        ),
      fc
        .record({ at, character: fc.constantFrom(...alphabet, '=', '.', '+', '/', ' ', '\t', '%') })
        .map(({ at, character }) => valid.slice(0, at) + character + valid.slice(at + 1)),
      fc
        .record({
          at,
          text: fc.oneof(
            fc.constantFrom(
              '=', '==', ' ', '\t', '.', '..', '\u00a0', '\u200b', '\ufeff', 'é', '\u2028', '.e30.', '%2e'
            ),
            fc.string({ minLength: 1, maxLength: 4 })
          )
        })
        .map(({ at, text }) => valid.slice(0, at) + text + valid.slice(at)),
      fc
        .record({ at, length: fc.integer({ min: 1, max: 40 }) })
        .map(({ at, length }) => valid.slice(0, at) + valid.slice(at + length)),
      // Segments swapped, doubled, missing, too many.
      fc.array(fc.constantFrom(...segments, '', 'e30'), { minLength: 0, maxLength: 5 }).map(parts => parts.join('.')),
      // Another spelling of the same bytes.
      fc.record({ index: fc.nat(2), step: fc.integer({ min: 1, max: 63 }) }).map(({ index, step }) => {
        const segment = segments[index]!
        return replaced(index, segment.slice(0, -1) + alphabet[(alphabet.indexOf(segment.at(-1)!) + step) % 64]!)
      }),
      fc
        .record({ index: fc.nat(2), pad: fc.constantFrom('=', '==', '\n', ' ', 'A', 'AA', 'AAA', 'AAAA') })
        .map(({ index, pad }) => replaced(index, segments[index]! + pad)),
      // Really signed, and still not ours: header members, algorithm names, key names, types.
      fc
        .record({
          name: fc.constantFrom('alg', 'typ', 'kid'),
          value: fc.oneof(
            fc.constantFrom(
              'none', 'None', 'HS256', 'hs256', 'HS512', 'ES384', 'ES256K', 'RS256', 'PS256', 'EdDSA', 'Ed448',
              'JWT', 'refresh+jwt', 'AT+JWT', 'application/at+jwt', '', 'k2', '../k1', 'k1\0', 'k1 ', 'K1',
              '__proto__', 'constructor'
            ),
            fc.jsonValue({ maxDepth: 2 })
          )
        })
        .filter(({ name, value }) => value !== header(alg)[name])
        .map(({ name, value }) => signed({ ...header(alg), [name]: value }, claims)),
      fc
        .record({
          name: fc.constantFrom('crit', 'zip', 'jku', 'x5u', 'jwk', 'x5c', 'b64'),
          value: fc.oneof(
            fc.jsonValue({ maxDepth: 2 }),
            fc.constantFrom(true, false, ['b64'], 'https://attacker.test/')
          )
        })
        .map(({ name, value }) => signed({ ...header(alg), [name]: value }, claims)),
      // Really signed, and not one JSON object of plain members.
      fc
        .constantFrom(...Object.keys(claims))
        .map(name => signed(header(alg), text(claims, `,"${name}":${JSON.stringify(claims[name])}`))),
      fc
        .constantFrom(...Object.keys(claims))
        .map(name =>
          signed(
            header(alg),
            text(claims, `,"\\u${name.charCodeAt(0).toString(16).padStart(4, '0')}${name.slice(1)}":1`)
          )
        ),
      fc
        .constantFrom('alg', 'typ', 'kid')
        .map(name => signed(text(header(alg), `,"${name}":"${String(header(alg)[name])}"`), claims)),
      fc
        .constantFrom(
          ',"__proto__":{"role":"admin"}', ',"note":{"constructor":1}', ',"note":[{"a":1,"a":2}]', ',', ',}', '}{',
          '//', ',"note":NaN', ',"note":\u00a01'
        )
        .map(extra => signed(header(alg), text(claims, extra))),
      fc
        .integer({ min: 8, max: 1_000 })
        .map(depth => signed(header(alg), text(claims, `,"note":${'['.repeat(depth)}${']'.repeat(depth)}`))),
      fc
        .integer({ min: 8, max: 100 })
        .map(depth => signed(text(header(alg), `,"note":${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`), claims)),
      fc.integer({ min: 8_200, max: 12_000 }).map(size => signed(header(alg), { ...claims, note: 'x'.repeat(size) })),
      fc.integer({ min: 1_025, max: 3_000 }).map(size => signed({ ...header(alg), note: 'x'.repeat(size) }, claims)),
      fc.uint8Array({ maxLength: 64 }).map(bytes => {
        const input = `${segments[0]!}.${Buffer.from(bytes).toString('base64url')}`
        const key = alg === 'HS256' ? (signingKey(alg) as { secret: string }).secret : PAIRS[alg].privateKey
        return `${input}.${signatureOf(alg, input, key).toString('base64url')}`
      }),
      // Claims of other types and values.
      fc
        .record({
          name: fc.constantFrom('iss', 'aud', 'sub', 'exp', 'iat', 'jti'),
          value: fc.jsonValue({ maxDepth: 1 })
        })
        .filter(
          ({ name, value }) =>
            !(['sub', 'jti'].includes(name) && typeof value === 'string') &&
              !(name === 'iat' && typeof value === 'number' && value > 1)
        )
        .map(({ name, value }) => signed(header(alg), { ...claims, user_id: undefined, [name]: value })),
      // Any text at all.
      fc.string({ maxLength: 200 }),
      fc.array(fc.base64String({ maxLength: 40 }), { maxLength: 6 }).map(parts => parts.join('.'))
    )
      .filter(mutated => mutated !== valid)
    await fc.assert(
      fc.asyncProperty(mutation, async mutated => {
        await assertRefused(app, mutated)
      }),
      { numRuns: RUNS }
    )
  })
}

t.test('the public key, in any spelling, is no HMAC secret; nor is a signature of another algorithm one of this', async t => {
  for (const alg of ASYMMETRIC) {
    const app = await build(t, { keys: { signing: signingKey(alg) } })
    app.get('/plain', { config: { security: { public: true } } }, async request => await request.jwtVerify())
    const { publicKey } = PAIRS[alg]
    const jwk = publicKey.export({ format: 'jwk' })
    const pem = publicKey.export({ type: 'spki', format: 'pem' }) as string
    const der = publicKey.export({ type: 'spki', format: 'der' })
    const spellings = [
      pem,
      pem.trim(),
      pem.replaceAll('\n', '\r\n'),
      ` ${pem}`,
      der,
      der.toString('base64'),
      JSON.stringify(jwk),
      JSON.stringify({ ...jwk, kid: 'k1', alg, use: 'sig' }),
      JSON.stringify({ keys: [jwk] }),
      Buffer.from((jwk.x ?? jwk.n)!, 'base64url'),
      ''
    ]
    for (const secret of spellings) {
      for (const named of ['HS256', alg]) {
        const input = `${encode({ ...header(alg), alg: named })}.${encode(validClaims())}`
        await assertRefused(app, `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`)
      }
    }
    // Signed by a key of every algorithm, under both names.
    for (const other of ALGORITHMS.filter(name => name !== alg)) {
      for (const named of [alg, other]) {
        await assertRefused(app, forgeWith(other, { ...header(alg), alg: named }, validClaims()))
      }
    }
    await assertRefused(app, forgeWith(alg, header(alg), validClaims(), pairFor(alg).privateKey))
    await assertRefused(app, `${encode({ ...header(alg), alg: 'none' })}.${encode(validClaims())}.`)
  }
  t.pass()
})

t.test('a signature of the right key in another form is refused', async t => {
  const app = await build(t, { keys: { signing: signingKey('ES256') } })
  app.get('/plain', { config: { security: { public: true } } }, async request => await request.jwtVerify())
  const input = `${encode(header('ES256'))}.${encode(validClaims())}`
  const { privateKey } = PAIRS.ES256
  await assertRefused(app, `${input}.${sign('sha256', Buffer.from(input), privateKey).toString('base64url')}`)
  for (const bytes of [0, 1, 32, 63, 65, 128]) {
    await assertRefused(app, `${input}.${Buffer.alloc(bytes).toString('base64url')}`)
  }
  // CVE-2022-21449: r = s = 0.
  await assertRefused(app, `${input}.${Buffer.alloc(64).toString('base64url')}`)

  const salted = await build(t, { keys: { signing: signingKey('PS256') } })
  salted.get('/plain', { config: { security: { public: true } } }, async request => await request.jwtVerify())
  const psInput = `${encode(header('PS256'))}.${encode(validClaims())}`
  for (const saltLength of [0, 20, 64]) {
    const signature = sign('sha256', Buffer.from(psInput), { key: PAIRS.PS256.privateKey, padding: 6, saltLength })
    await assertRefused(salted, `${psInput}.${signature.toString('base64url')}`)
  }
})

t.test('odd headers are no way around it', async t => {
  const app = await build(t, { keys: { signing: signingKey('EdDSA') } })
  app.get('/plain', { config: { security: { public: true } } }, async request => await request.jwtVerify())
  const { token } = app.auth.tokens.issue({ subject: 'alice' })
  for (const authorization of [
    `Bearer  ${token}`,
    `Bearer\t\t${token}`,
    `Bearer ${token} `,
    `Bearer ${token} x`,
    `Bearer ${token},Bearer ${token}`,
    'Bearer',
    'Bearer ',
    'Bearer null',
    'Bearer undefined',
    'Bearer [object Object]',
    [`Bearer ${token}`, 'x'],
    [`Bearer ${token}`],
    [],
    null,
    5,
    ''
  ]) {
    for (const url of ['/who', '/plain']) {
      const answer = await app.inject({ url, headers: { authorization: authorization as string } })
      // Node's HTTP parser keeps the first of several.
      const isPlain = Array.isArray(authorization) && authorization.length > 0
      t.equal(answer.statusCode, isPlain ? 200 : 401, `${url} ${JSON.stringify(authorization)?.slice(0, 20)}`)
      if (!isPlain) t.match(answer.headers['www-authenticate'], /^Bearer/)
    }
  }
})

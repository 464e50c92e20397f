import t from 'tap'
import fc from 'fast-check'
import { createTokenVerifier, issueToken } from '@marty/auth'
import { MartyError } from '@marty/core'
import { AUDIENCE, encode, ISSUER, now, TOKENS } from '@marty/testing/tokens'
import { forge, validClaims, validHeader } from './service.js'

const verify = createTokenVerifier(TOKENS)

/** True when accepted; anything thrown but the one error fails the property. */
function accepts (token: unknown): boolean {
  try {
    verify(token as string)
    return true
  } catch (error) {
    if (error instanceof MartyError && error.code === 'MARTY_CORE_CREDENTIAL_INVALID' && error.statusCode === 401 &&
      error.message === 'The credential is not valid' &&
      error.headers['www-authenticate'] === 'Bearer error="invalid_token"'
    ) {
      return false
    }
    throw error
  }
}

t.test('a mutated token is never accepted', async t => {
  const token = issueToken(TOKENS, { subject: 'alice', role: 'viewer' }).token
  t.ok(accepts(token))
  const position = fc.nat(token.length - 1)
  const unit = fc.oneof(
    fc.constantFrom(...'ABCabc019-_=. +/\n\0'),
    fc.string({ minLength: 1, maxLength: 3 }),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 2 })
  )
  const mutation = fc.oneof(
    fc.record({ at: position, text: unit }).map(({ at, text }) => token.slice(0, at) + text + token.slice(at + 1)),
    fc.record({ at: position, text: unit }).map(({ at, text }) => token.slice(0, at) + text + token.slice(at)),
    fc
      .record({ at: position, length: fc.integer({ min: 1, max: 20 }) })
      .map(({ at, length }) => token.slice(0, at) + token.slice(at + length)),
    fc.shuffledSubarray(token.split('.'), { minLength: 0 }).map(parts => parts.join('.')),
    fc.record({ at: position, to: position }).map(({ at, to }) => swap(token, at, to)),
    fc
      .record({ at: position, bit: fc.integer({ min: 0, max: 6 }) })
      .map(
        ({ at, bit }) =>
          token.slice(0, at) + String.fromCharCode(token.charCodeAt(at) ^ (1 << bit)) + token.slice(at + 1)
      )
  ).filter(mutated => mutated !== token)
  fc.assert(fc.property(mutation, mutated => !accepts(mutated)), { numRuns: 20_000 })
})

t.test('any string, and any other value, is refused with the one error', async t => {
  t.notOk(accepts(undefined))
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string({ unit: 'binary', maxLength: 300 }),
        fc.array(fc.base64String(), { maxLength: 5 }).map(parts => parts.join('.')),
        fc.anything()
      ),
      text => !accepts(text)
    ),
    { numRuns: 5_000 }
  )
})

t.test('whatever the holder of the key signs, only what the rules allow is accepted', async t => {
  const json = fc.jsonValue({ maxDepth: 3 })
  const time = fc.oneof(fc.integer({ min: now() - 100_000, max: now() + 100_000 }), json)
  const claims = fc.record({
    iss: fc.oneof(fc.constant(ISSUER), json),
    aud: fc.oneof(fc.constant(AUDIENCE), fc.constant([AUDIENCE, 'b']), json),
    sub: fc.oneof(fc.constant('alice'), json),
    iat: fc.oneof({ weight: 3, arbitrary: fc.constant(now()) }, time),
    exp: fc.oneof({ weight: 3, arbitrary: fc.constant(now() + 60) }, time),
    jti: fc.oneof(fc.constant('j'), json),
    user_id: fc.oneof(fc.constant('alice'), json),
    role: fc.oneof(fc.constant('viewer'), json),
    roles: fc.oneof(fc.constant(['viewer', 'admin']), json)
  }, { requiredKeys: ['iss', 'aud', 'sub', 'iat', 'exp', 'jti'] })
  let accepted = 0
  fc.assert(fc.property(claims, payload => {
    if (!accepts(forge(validHeader(), payload))) return true
    accepted++
    const { iss, aud, sub, iat, exp, jti, user_id: userId, role, roles } = payload
    return (
      iss === ISSUER &&
      [aud].flat().includes(AUDIENCE) &&
      typeof sub === 'string' &&
      typeof jti === 'string' &&
      Number.isInteger(iat) &&
      Number.isInteger(exp) &&
      (exp as number) > now() - 1 &&
      (exp as number) - (iat as number) <= 86_400 &&
      (iat as number) <= now() + 31 &&
      (userId === undefined || userId === sub) &&
      (role === undefined || typeof role === 'string') &&
      (roles === undefined || Array.isArray(roles))
    )
  }), { numRuns: 5_000 })
  t.ok(accepted > 0, 'some of them were good')

  const header = fc.dictionary(
    fc.constantFrom('alg', 'typ', 'kid', 'crit', 'b64', 'jku', 'jwk', 'x5c', 'x5u', 'zip', 'cty', 'x'),
    fc.oneof(json, fc.constantFrom('HS256', 'none', 'at+jwt', 'k1'))
  )
  fc.assert(fc.property(header, changes => {
    const given: Record<string, unknown> = { ...validHeader(), ...changes }
    const fine =
      given['alg'] === 'HS256' &&
      given['typ'] === 'at+jwt' &&
      given['kid'] === 'k1' &&
      !['crit', 'b64', 'jku', 'jwk', 'x5c', 'x5u', 'zip'].some(name => name in changes)
    return accepts(forge(given, validClaims())) === fine
  }), { numRuns: 5_000 })
})

t.test('a key twice in an object is found wherever it is, and nothing else is mistaken for it', async t => {
  const object = fc.dictionary(
    fc
      .oneof(fc.constantFrom('a', 'b', '"', '\\', '{', 'a":', ':'), fc.string())
      .filter(key => !['__proto__', 'constructor'].includes(key)),
    fc.oneof(
      fc.string(),
      fc.constantFrom('{"a":1,"a":2}', '\\"a"', '"'),
      fc.integer(),
      fc.array(fc.string()),
      fc.dictionary(fc.constantFrom('a', 'b'), fc.integer())
    ),
    { noNullPrototype: true }
  )
  fc.assert(fc.property(object, note => accepts(forge(validHeader(), { ...validClaims(), note }))), { numRuns: 2_000 })
  fc.assert(fc.property(object, fc.string().filter(key => !['__proto__', 'constructor'].includes(key)), (note, key) => {
    const inner = `{${JSON.stringify(key)}:1,"between":${JSON.stringify(note)}, ${JSON.stringify(key)}\t:1}`
    return !accepts(forge(validHeader(), JSON.stringify(validClaims()).slice(0, -1) + `,"note":${inner}}`))
  }), { numRuns: 2_000 })
})

t.test('the check that failed is in the cause, for tools', async t => {
  t.throws(() => verify(`${encode(validHeader())}.${encode(validClaims())}.AAAA`), {
    cause: 'token check failed: signature'
  })
})

function swap (text: string, a: number, b: number): string {
  const characters = [...text]
  const kept = characters[a]!
  characters[a] = characters[b]!
  characters[b] = kept
  return characters.join('')
}

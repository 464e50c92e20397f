import t from 'tap'
import fc from 'fast-check'
import { randomBytes, randomUUID } from 'node:crypto'
import { createMemoryApiKeyStore, createTokenIssuer, type AuthOptions, type JwtKeyOptions } from '@marty/auth'
import { PEPPER, TOKENS } from '@marty/testing/tokens'
import { build } from './service.js'

const counting = (length: number, step: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => (i * step) & 255))

const poor: Readonly<Record<string, Buffer | string>> = {
  'one byte': Buffer.alloc(32, 1),
  'one byte, 2000 times': Buffer.alloc(2_000, 0xff),
  'one character': 'x'.repeat(32),
  'one byte in base64': Buffer.alloc(32, 7).toString('base64'),
  blanks: ' '.repeat(64),
  padding: '='.repeat(40),
  'two characters': '0110100110010110100101100110100101101001',
  'a short text, repeated': 'changeme'.repeat(4),
  'a short text, repeated and cut': 'changemechangemechangemechangemec',
  'random bytes, repeated': Buffer.from('6c1fa9'.repeat(12), 'hex'),
  'half a key, twice': Buffer.concat([counting(16, 7), counting(16, 7)]),
  'bytes that count up': counting(32, 1),
  'bytes that count down': counting(48, -3),
  'bytes that count up, in hexadecimal': counting(32, 1).toString('hex'),
  'bytes that count up, in base64url': counting(32, 1).toString('base64url'),
  digits: '12345678901234567890123456789012',
  'hexadecimal digits in order': '0123456789abcdef0123456789abcdef',
  'the alphabet': 'abcdefghijklmnopqrstuvwxyz012345',
  'keys of a keyboard': 'qwertyuiopasdfghjklzxcvbnm123456',
  'words with dashes': 'super-secret-key-change-in-production',
  'words without anything between': 'supersecretkeychangeinproduction',
  'words in capitals': 'THIS_IS_A_VERY_LONG_SECRET_KEY_FOR_JWT',
  'words and a year': 'My-Super-Secret-JWT-Signing-Key-2026!',
  'a sentence': 'a secret of more than thirty-two bytes, for tests',
  'a long sentence':
    'nobody will ever guess that this is what we sign every token of the whole company with, will they',
  'a famous one': 'CorrectHorseBatteryStaple-CorrectHorse',
  'words in base64': Buffer.from('changeme-please-before-production').toString('base64'),
  'words in hexadecimal': Buffer.from('this is the secret of our service').toString('hex')
}

const apiKeys = (pepper: Buffer | string, previousPeppers: Array<Buffer | string> = []): Partial<AuthOptions> =>
  ({ apiKeys: { store: createMemoryApiKeyStore(), prefix: 'cam', environment: 'test', pepper, previousPeppers } })
const hs256 = (kid: string, secret: Buffer | string): JwtKeyOptions => ({ kid, algorithm: 'HS256', secret })
const signing = (secret: Buffer | string): Partial<AuthOptions> => ({ keys: { signing: hs256('k1', secret) } })
const previous = (secret: Buffer | string): Partial<AuthOptions> =>
  ({ keys: { signing: hs256('k1', randomBytes(32)), previous: [hs256('k0', secret)] } })

const places: Array<[string, (secret: Buffer | string) => Partial<AuthOptions>]> = [
  ['keys.signing.secret', signing],
  ['keys.previous[0].secret', previous],
  ['apiKeys.pepper', pepper => apiKeys(pepper)],
  ['refresh.secret', secret => ({ refresh: { secret } })]
]

for (const [field, options] of places) {
  t.test(`${field}: what could be guessed stops the start, and the message says what to do without showing it`, async t => {
    for (const [name, secret] of Object.entries(poor)) {
      const error = await build(t, options(secret)).then(
        () => null,
        (error: { code: string; message: string }) => error
      )
      t.equal(error?.code, 'MARTY_AUTH_OPT_INVALID', name)
      t.equal(error?.message.startsWith(`auth option "${field}" `), true)
      t.match(error?.message, /so it can be guessed; make one with: openssl rand -base64 48$/)
      t.notOk(error?.message.includes(secret.toString()), 'the secret is not shown')
    }
  })
}

t.test('a poor pepper of before may be given as a previous one, so that it can be left', async t => {
  t.ok(await build(t, apiKeys(PEPPER, ['changeme'.repeat(4)])))
  await t.rejects(build(t, apiKeys(PEPPER, ['too short'])), {
    code: 'MARTY_AUTH_OPT_INVALID',
    message: /previousPeppers\[0\]/
  })
})

t.test('random keys pass, in every usual spelling', async t => {
  const spellings: Array<(bytes: Buffer) => Buffer | string> = [
    bytes => bytes,
    bytes => bytes.toString('hex'),
    bytes => bytes.toString('hex').toUpperCase(),
    bytes => bytes.toString('hex').match(/../g)!.join(':'),
    bytes => bytes.toString('base64'),
    bytes => bytes.toString('base64url'),
    bytes => `${bytes.toString('base64')}\n`,
    bytes => Buffer.concat([bytes, bytes])
  ]
  const accept = (secret: Buffer | string): unknown => createTokenIssuer({ ...TOKENS, ...signing(secret) })
  for (let i = 0; i < 300; i++) {
    for (const length of [32, 48, 64]) for (const spell of spellings) accept(spell(randomBytes(length)))
    accept(randomBytes(16).toString('hex'))
    accept(randomUUID())
  }
  fc.assert(fc.property(fc.uint8Array({ minLength: 32, maxLength: 64 }), fc.nat(spellings.length - 1), (mask, i) => {
    // Any bytes, with random ones added to them.
    const bytes = randomBytes(mask.length)
    for (const [at, byte] of mask.entries()) bytes[at]! ^= byte
    accept(spellings[i]!(bytes))
  }), { numRuns: 500 })
  t.ok(await build(t, signing(randomBytes(32))))
})

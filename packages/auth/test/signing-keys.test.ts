import t, { type Test } from 'tap'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync
} from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import {
  createTokenIssuer,
  createTokenVerifier,
  jwksOf,
  openSigningKeys,
  rotateSigningKeys,
  type SigningKeyRecord
} from '@marty/auth'
import { until } from '@marty/testing'
import { ALGORITHMS, PAIRS } from '@marty/testing/key-pairs'
import { AUDIENCE, bearer, ISSUER, secretFor, TOKENS } from '@marty/testing/tokens'
import { build } from './service.js'

const CHILD = fileURLToPath(new URL('signing-keys-child.js', import.meta.url))
const options = { issuer: ISSUER, audience: AUDIENCE }
const records = (file: string): SigningKeyRecord[] =>
  (JSON.parse(readFileSync(file, 'utf8')) as { keys: SigningKeyRecord[] }).keys
const SECRET_TEXT = Buffer.from(secretFor('signing keys'), 'base64').toString('base64url')
const record = (changes: object = {}): object => ({
  kid: 'k1',
  algorithm: 'HS256',
  secret: SECRET_TEXT,
  createdAt: 1,
  activatesAt: 1,
  expiresAt: null,
  ...changes
})
const ED_JWK = PAIRS.EdDSA.privateKey.export({ format: 'jwk' })
/** An Ed25519 key that is recorded with an algorithm. */
const edDsaRecord = (algorithm: string): object => record({ algorithm, secret: undefined, privateKey: ED_JWK })

function write (file: string, keys: unknown, mode = 0o600): void {
  writeFileSync(`${file}.new`, typeof keys === 'string' ? keys : JSON.stringify({ version: 1, keys }))
  chmodSync(`${file}.new`, mode)
  renameSync(`${file}.new`, file)
}

/** Moves the clock of this process forward, for the test. */
function clock (t: Test): { advance: (ms: number) => void } {
  const real = Date.now
  let ahead = 0
  Date.now = () => real() + ahead
  t.teardown(() => { Date.now = real })
  return { advance: ms => { ahead += ms } }
}

function child (t: Test, ...args: string[]): { process: ChildProcess, lines: string[], exited: Promise<unknown> } {
  const spawned = spawn(process.execPath, [CHILD, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(spawned, 'exit')
  t.teardown(async () => { spawned.kill('SIGKILL'); await exited })
  const lines: string[] = []
  createInterface(spawned.stdout!).on('line', line => { lines.push(line) })
  return { process: spawned, lines, exited }
}

t.test('a file that cannot be used stops the start and says what is wrong where, but no secret', async t => {
  const file = join(t.testdir(), 'keys.json')
  const secret = SECRET_TEXT
  const privateKey = PAIRS.ES256.privateKey.export({ format: 'jwk' })
  const bad: ReadonlyArray<readonly [RegExp, unknown, number?]> = [
    [/not JSON/, `{"version":1,"keys":[{"secret":"${secret}"`],
    [/version/, '{"version":2,"keys":[]}'],
    [/version/, 'null'],
    [/version/, '{"version":1,"keys":{}}'],
    [/contains 0 keys/, []],
    [/contains 65 keys/, Array.from({ length: 65 }, () => record())],
    [/keys\[0\] is not a key/, [null]],
    [/keys\[0\]\.kid/, [record({ kid: '../x' })]],
    [/keys\[1\]\.kid is used by two keys/, [record(), record()]],
    [/keys\[0\]\.algorithm/, [record({ algorithm: 'none' })]],
    [/keys\[0\]\.secret is not base64url/, [record({ secret: secret + '=' })]],
    [/keys\[0\]\.secret has 31 bytes/, [record({ secret: Buffer.alloc(31).toString('base64url') })]],
    [/keys\[0\]\.secret must be/, [record({ secret: 5 })]],
    [/keys\[0\]\.secret cannot be used with/, [record({ algorithm: 'ES256', privateKey })]],
    [/keys\[0\]\.privateKey/, [record({ algorithm: 'ES256', secret: undefined, privateKey: 'x' })]],
    [/keys\[0\]\.privateKey must be an EC key/, [edDsaRecord('ES256')]],
    [/keys\[0\]\.createdAt/, [record({ createdAt: '2026' })]],
    [/keys\[0\]\.activatesAt/, [record({ activatesAt: -1 })]],
    [/keys\[0\]\.expiresAt/, [record({ expiresAt: undefined })]],
    [/mixes/, [record(), record({ kid: 'k2', algorithm: 'ES256', secret: undefined, privateKey })]],
    [/no key that is active/, [record({ activatesAt: Date.now() + 60_000 })]],
    [/no key that is active/, [record({ expiresAt: Date.now() - 1 })]],
    [/chmod 600/, [record()], 0o640],
    [/chmod 600/, [record()], 0o604]
  ]
  for (const [message, keys, mode] of bad) {
    write(file, keys, mode)
    const error = await Promise.resolve()
      .then(() => openSigningKeys(file))
      .then(
        () => null,
        (error: unknown) => error as Error & { code: string }
      )
    t.match(error, { code: 'MARTY_AUTH_SIGNING_KEYS_INVALID', statusCode: 500, message }, String(message))
    t.ok(error?.message.includes(file))
    t.notOk(error?.message.includes(secret.slice(0, 20)) === true || error?.message.includes(privateKey.d!) === true)
  }
  rmSync(file)
  t.throws(() => openSigningKeys(file), { code: 'MARTY_AUTH_SIGNING_KEYS_INVALID', message: /ENOENT/ })
  t.throws(() => openSigningKeys(t.testdirName), { code: 'MARTY_AUTH_SIGNING_KEYS_INVALID', message: /EISDIR/ })
})

t.test('what cannot be rotated is refused and changes nothing', async t => {
  const file = join(t.testdir(), 'keys.json')
  for (const [field, rotation] of [
    ['algorithm', {}],
    ['algorithm', { algorithm: 'none' }],
    ['algorithm', { algorithm: ['HS256'] }],
    ['activatesInSeconds', { algorithm: 'HS256', activatesInSeconds: -1 }],
    ['overlapSeconds', { algorithm: 'HS256', overlapSeconds: 1.5 }]
  ] as const) {
    await t.rejects(rotateSigningKeys(file, rotation as never), {
      code: 'MARTY_AUTH_OPT_INVALID',
      message: new RegExp(field)
    })
  }
  t.notOk(existsSync(file))
  await rotateSigningKeys(file, { algorithm: 'HS256' })
  const before = readFileSync(file, 'utf8')
  await t.rejects(rotateSigningKeys(file, { algorithm: 'EdDSA' }), {
    code: 'MARTY_AUTH_SIGNING_KEYS_INVALID',
    message: /do not mix/
  })
  t.equal(readFileSync(file, 'utf8'), before)
  write(file, Array.from({ length: 64 }, (_, index) => record({ kid: `k${index}` })))
  await t.rejects(rotateSigningKeys(file, { algorithm: 'HS256' }), {
    code: 'MARTY_AUTH_SIGNING_KEYS_INVALID',
    message: /64 keys that have not expired/
  })
  write(file, 'damaged')
  await t.rejects(rotateSigningKeys(file, { algorithm: 'HS256' }), {
    code: 'MARTY_AUTH_SIGNING_KEYS_INVALID',
    message: /not JSON/
  })
  t.equal(readFileSync(file, 'utf8'), 'damaged')
  await t.rejects(rotateSigningKeys(join(file, 'below', 'keys.json'), { algorithm: 'HS256' }), {
    code: 'MARTY_AUTH_SIGNING_KEYS_INVALID',
    message: /cannot be written \(ENOTDIR\)/
  })
  t.strictSame(readdirSync(t.testdirName), ['keys.json'], 'no lock, no temporary file')
})

t.test('rotation: published before it signs, accepted until the overlap ends, then dropped', async t => {
  const { advance } = clock(t)
  for (const algorithm of ALGORITHMS) {
    const file = join(t.testdir(), 'new', 'folder', `${algorithm}.json`)
    const first = await rotateSigningKeys(file, { algorithm })
    t.ok(first.activatesAt <= Date.now(), 'the first key is active at once')
    t.equal(statSync(file).mode & 0o777, 0o600)
    const keys = openSigningKeys(file)
    const { issue } = createTokenIssuer({ ...options, keys })
    const verify = createTokenVerifier({ ...options, keys })
    const kidOf = (token: string): string =>
      (JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()) as { kid: string }).kid
    const old = issue({ subject: 'alice', ttlSeconds: 3_000 }).token
    t.equal(kidOf(old), first.kid)

    const second = await rotateSigningKeys(file, { algorithm, overlapSeconds: 600 })
    t.equal(second.activatesAt - records(file)[1]!.createdAt <= 60_000, true)
    t.equal(records(file)[0]!.expiresAt, second.activatesAt + 600_000)
    advance(501)
    t.equal(kidOf(issue({ subject: 'alice' }).token), first.kid, 'not yet active')
    t.strictSame(keys.all().map(({ kid }) => kid), [first.kid, second.kid], 'but known')
    if (algorithm !== 'HS256') {
      t.strictSame(
        jwksOf(keys).keys.map(({ kid }) => kid),
        [first.kid, second.kid],
        'and published'
      )
    }
    advance(60_000)
    const next = issue({ subject: 'alice', ttlSeconds: 3_000 }).token
    t.equal(kidOf(next), second.kid)
    for (const token of [old, next]) t.match(verify(token), { sub: 'alice' })
    advance(600_000)
    t.throws(() => verify(old), { cause: 'token check failed: kid' }, 'the overlap is over')
    t.match(verify(next), { sub: 'alice' })
    t.strictSame(keys.all().map(({ kid }) => kid), [second.kid])

    const third = await rotateSigningKeys(file, { algorithm, activatesInSeconds: 3_600 })
    t.strictSame(third.dropped, [first.kid])
    const fourth = await rotateSigningKeys(file, { algorithm, activatesInSeconds: 0, overlapSeconds: 100_000 })
    advance(501)
    t.equal(kidOf(issue({ subject: 'alice' }).token), fourth.kid)
    advance(3_600_000)
    t.equal(
      kidOf(issue({ subject: 'alice' }).token),
      fourth.kid,
      'the newest one signs, not the one that was to be active later'
    )
    t.strictSame(records(file).map(({ kid }) => kid), [second.kid, third.kid, fourth.kid])

    const emergency = await rotateSigningKeys(file, { algorithm, activatesInSeconds: 0, overlapSeconds: 0 })
    t.ok(emergency.dropped.includes(fourth.kid), 'without an overlap the newest key is all there is')
  }
})

t.test('a damaged, opened or missing file leaves the last good keys in force, and is told of once', async t => {
  const { advance } = clock(t)
  const file = join(t.testdir(), 'keys.json')
  await rotateSigningKeys(file, { algorithm: 'HS256' })
  const good = readFileSync(file, 'utf8')
  const told: string[] = []
  const keys = openSigningKeys(file, { onProblem: error => { told.push(error.message) } })
  const { kid } = keys.signing()
  const problems: ReadonlyArray<readonly [RegExp, () => void]> = [
    [/not JSON/, () => { write(file, good.slice(0, 50)) }],
    [/chmod/, () => { write(file, good, 0o644) }],
    [/ENOENT/, () => { rmSync(file) }],
    [/restart the service/, () => { write(file, [edDsaRecord('EdDSA')]) }]
  ]
  for (const [message, harm] of problems) {
    harm()
    for (let i = 0; i < 4; i++) {
      advance(501)
      t.equal(keys.signing().kid, kid)
      t.equal(keys.find(kid)?.kid, kid)
    }
    t.match(told.splice(0), [message])
    t.equal(told.length, 0)
  }
  write(file, [record({ kid: 'repaired' })])
  advance(501)
  t.equal(keys.signing().kid, 'repaired')
  t.equal(keys.find(kid), undefined)

  // Expired with nothing newer: nobody can sign, and the error that reaches a request tells no path.
  write(file, [record({ kid: 'ends', expiresAt: Date.now() + 1_000 })])
  advance(501)
  t.equal(keys.signing().kid, 'ends')
  advance(1_000)
  t.throws(() => keys.signing(), { code: 'MARTY_AUTH_SIGNING_KEYS_INVALID', message: /^No signing key is active/ })
  advance(-2_000)
  t.equal(keys.signing().kid, 'ends', 'a clock that was set back is followed')

  const warnings: Error[] = []
  const listen = (warning: Error): void => { warnings.push(warning) }
  process.on('warning', listen)
  t.teardown(() => { process.off('warning', listen) })
  const quiet = openSigningKeys(file)
  write(file, 'damaged')
  advance(501)
  quiet.signing()
  await turn()
  t.match(warnings, [{ code: 'MARTY_AUTH_SIGNING_KEYS_INVALID' }], 'unless told otherwise, the process warns')
})

t.test('fastify.jwt and remembered tokens follow a rotation', async t => {
  const { advance } = clock(t)
  const file = join(t.testdir(), 'keys.json')
  await rotateSigningKeys(file, { algorithm: 'EdDSA' })
  const app = await build(t, { ...TOKENS, keys: openSigningKeys(file) })
  app.get(
    '/plain',
    { config: { security: { public: true } } },
    async request => await request.jwtVerify({ allowedSub: 'alice' })
  )
  app.get(
    '/sign',
    { config: { security: { public: true } } },
    async (_, reply) => await reply.jwtSign({ sub: 'alice' })
  )
  const old = app.jwt.sign({ sub: 'alice' })
  const good = async (token: string): Promise<number[]> => [
    (await app.inject({ url: '/who', headers: bearer(token) })).statusCode,
    (await app.inject({ url: '/plain', headers: bearer(token) })).statusCode
  ]
  t.strictSame(await good(old), [200, 200])
  const { kid } = await rotateSigningKeys(file, { algorithm: 'ES256', activatesInSeconds: 0, overlapSeconds: 60 })
  advance(501)
  for (const token of [
    app.jwt.sign({ sub: 'alice' }),
    (await app.inject('/sign')).body,
    app.auth.tokens.issue({ subject: 'alice' }).token
  ]) {
    t.match(app.jwt.decode(token, { complete: true }), { header: { alg: 'ES256', kid } })
    t.strictSame(await good(token), [200, 200])
  }
  t.strictSame(await good(old), [200, 200])
  advance(60_000)
  t.strictSame(await good(old), [401, 401], 'also when it was remembered')
})

t.test('a lock that was left behind is broken; one that was lost is noticed', async t => {
  const file = join(t.testdir(), 'keys.json')
  const dead = spawn(process.execPath, ['-e', ''])
  await once(dead, 'exit')
  // Of a process that died here, and while it broke another's.
  writeFileSync(`${file}.lock`, `${hostname()} ${dead.pid} x`)
  writeFileSync(`${file}.lock.break`, `${hostname()} ${dead.pid} x`)
  await rotateSigningKeys(file, { algorithm: 'HS256' })
  // Of a process elsewhere, long ago.
  writeFileSync(`${file}.lock`, 'elsewhere 1 x')
  utimesSync(`${file}.lock`, 1, 1)
  await rotateSigningKeys(file, { algorithm: 'HS256' })
  // Of a process that is alive: it is waited for.
  writeFileSync(`${file}.lock`, `${hostname()} ${process.pid} x`)
  let done = false
  const waiting = rotateSigningKeys(file, { algorithm: 'HS256' }).finally(() => { done = true })
  await new Promise(resolve => setTimeout(resolve, 100))
  t.notOk(done)
  rmSync(`${file}.lock`)
  await waiting
  t.equal(records(file).length, 3)

  // Taken over while this process was stopped: it must not write.
  const lost = rotateSigningKeys(file, { algorithm: 'HS256' })
  while (!existsSync(join(t.testdirName, '.keys.json.tmp'))) await turn()
  writeFileSync(`${file}.lock`, `${hostname()} 1 another`)
  await t.rejects(lost, { code: 'MARTY_AUTH_SIGNING_KEYS_INVALID', message: /ESTALE/ })
  t.equal(records(file).length, 3)
  t.equal(readFileSync(`${file}.lock`, 'utf8'), `${hostname()} 1 another`, 'and leaves the other one its lock')
  rmSync(`${file}.lock`)
  rmSync(join(t.testdirName, '.keys.json.tmp'))
  const removed = rotateSigningKeys(file, { algorithm: 'HS256' })
  while (!existsSync(join(t.testdirName, '.keys.json.tmp'))) await turn()
  rmSync(`${file}.lock`)
  await t.rejects(removed, { message: /ESTALE/ })
})

t.test('a lock that is never given back is an error', async t => {
  const { advance } = clock(t)
  const file = join(t.testdir(), 'keys.json')
  writeFileSync(`${file}.lock`, `${hostname()} ${process.pid} x`)
  const waiting = t.rejects(rotateSigningKeys(file, { algorithm: 'HS256' }), {
    code: 'MARTY_AUTH_SIGNING_KEYS_INVALID',
    message: /EEXIST/
  })
  await new Promise(resolve => setTimeout(resolve, 60))
  // The lock stays young while the clock goes on.
  advance(16_000)
  utimesSync(`${file}.lock`, Date.now() / 1000, Date.now() / 1000)
  await waiting
})

t.test('processes that rotate at once take turns, and none is lost', async t => {
  const file = join(t.testdir(), 'keys.json')
  await Promise.all([
    ...Array.from({ length: 10 }, async () => await rotateSigningKeys(file, { algorithm: 'HS256' })),
    ...Array.from({ length: 4 }, async () => { await child(t, 'once', file, 'HS256').exited })
  ])
  t.equal(records(file).length, 14)
  t.equal(new Set(records(file).map(({ createdAt }) => createdAt)).size, 14)
  t.strictSame(readdirSync(t.testdirName), ['keys.json'])
})

t.test('kill -9 while rotating leaves the old file or the new one', async t => {
  mkdirSync(t.testdir(), { recursive: true })
  for (let i = 0; i < 12; i++) {
    const file = join(t.testdirName, `keys-${i}.json`)
    const rotating = child(t, 'for-ever', file, 'HS256')
    await until(() => rotating.lines.length > 0, 'the first rotation')
    await new Promise(resolve => setTimeout(resolve, Math.random() * 30))
    rotating.process.kill('SIGKILL')
    await rotating.exited
    const acknowledged = rotating.lines.at(-1)!
    t.ok(records(file).some(({ kid }) => kid === acknowledged), 'what was acknowledged is there')
    openSigningKeys(file)
    // The next writer is not in the way of what was left behind.
    const { kid } = await rotateSigningKeys(file, { algorithm: 'HS256', activatesInSeconds: 0 })
    t.equal(openSigningKeys(file).signing().kid, kid)
    t.strictSame(readdirSync(t.testdirName).filter(name => name.includes('lock') || name.includes('tmp')), [])
  }
})

t.test('two services share a file through rotations: no token is refused in between', async t => {
  const file = join(t.testdir(), 'keys.json')
  await rotateSigningKeys(file, { algorithm: 'ES256' })
  const services = [child(t, 'serve', file), child(t, 'serve', file)]
  await until(() => services.every(({ lines }) => lines.length > 0), 'both services')
  const urls = services.map(({ lines }) => lines[0]!)
  const kids = new Set<string>()
  let answers = 0
  const exchange = async (): Promise<void> => {
    for (const from of urls) {
      const { token } = await (await fetch(`${from}/issue`)).json() as { token: string }
      kids.add((JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()) as { kid: string }).kid)
      for (const to of urls) {
        const answer = await fetch(`${to}/who`, { headers: bearer(token) })
        if (answer.status !== 200) throw new Error(`${answer.status} after ${answers} good answers`)
        answers++
      }
    }
  }
  for (const algorithm of ['EdDSA', 'ES256'] as const) {
    // One second: twice what a process may take to look again.
    const { kid } = await rotateSigningKeys(file, { algorithm, activatesInSeconds: 1 })
    await until(async () => { await exchange(); return kids.has(kid) }, 'the new key to sign')
    for (let i = 0; i < 20; i++) await exchange()
    const published = (await (await fetch(`${urls[0]!}/.well-known/jwks.json`)).json()) as {
      keys: Array<{ kid: string }>
    }
    t.ok(published.keys.some(key => key.kid === kid))
  }
  t.equal(kids.size, 3)
  t.ok(answers > 100)
})

import { randomBytes } from 'node:crypto'
import { chmodSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { auth, openSigningKeys, type AuthOptions } from '@marty/auth'
import { runCommandLine } from '@marty/cli'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { refuses, run, runAsChild } from './run.js'

const SECRET = randomBytes(32).toString('base64')
const folder = t.testdir({
  secret: `${SECRET}\n`,
  short: 'too short',
  bytes: Buffer.from([0xff, 0xfe, 0x00]),
  'damaged.json': '{'
})
const at = (name: string): string => join(folder, name)
chmodSync(at('damaged.json'), 0o600)

const DOOR = ['--issuer', 'https://issuer.test', '--audience', 'camera-service']
const BY_SECRET = [...DOOR, '--secret-file', at('secret'), '--kid', 'k1']

/** What a real service says to a token. */
async function asked (t: Test, keys: AuthOptions['keys'], token: string): Promise<{ status: number; body: string }> {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(auth, {
    issuer: 'https://issuer.test',
    audience: 'camera-service',
    keys,
    maxLifetimeSeconds: 7 * 86_400
  })
  app.get(
    '/who',
    { config: { security: { authenticate: true } } },
    async ({ principal: { id, kind, roles, scopes } }) => ({ id, kind, roles, scopes })
  )
  const { statusCode, body } = await app.inject({ url: '/who', headers: { authorization: `Bearer ${token}` } })
  return { status: statusCode, body }
}

t.test('token issue says what is missing or wrong, and never the secret', async t => {
  await refuses(
    t,
    [
      [2, /token issue needs --subject/, ['token', 'issue', ...BY_SECRET]],
      [2, /--issuer is missing/, ['token', 'issue', '--subject', 'alice']],
      [2, /--audience is missing/, ['token', 'issue', '--subject', 'alice', '--issuer', 'i']],
      [
        2,
        /say with which key: --signing-keys FILE, or --secret-file FILE and --kid NAME/,
        ['token', 'issue', '--subject', 'alice', ...DOOR]
      ],
      [2, /say with which key/, ['token', 'issue', '--subject', 'alice', ...DOOR, '--secret-file', at('secret')]],
      [
        2,
        /nowhere cannot be read: there is no such file/,
        ['token', 'issue', '--subject', 'alice', ...DOOR, '--secret-file', 'nowhere', '--kid', 'k1']
      ],
      [
        2,
        /bytes cannot be read: it is not UTF-8; keep a secret as text/,
        ['token', 'issue', '--subject', 'alice', ...DOOR, '--secret-file', at('bytes'), '--kid', 'k1']
      ],
      [
        2,
        /9 bytes.*MARTY_AUTH_OPT_INVALID/,
        ['token', 'issue', '--subject', 'alice', ...DOOR, '--secret-file', at('short'), '--kid', 'k1']
      ],
      [
        3,
        /damaged\.json.*MARTY_AUTH_SIGNING_KEYS_INVALID/,
        ['token', 'issue', '--subject', 'alice', ...DOOR, '--signing-keys', at('damaged.json')]
      ],
      [
        3,
        /nowhere.*MARTY_AUTH_SIGNING_KEYS_INVALID/,
        ['token', 'issue', '--subject', 'alice', ...DOOR, '--signing-keys', at('nowhere')]
      ],
      [
        2,
        /--ttl "a while" is not a time such as 90s/,
        ['token', 'issue', '--subject', 'alice', ...BY_SECRET, '--ttl', 'a while']
      ],
      [2, /MARTY_AUTH_REQUEST_INVALID/, ['token', 'issue', '--subject', 'alice', ...BY_SECRET, '--ttl', '0']],
      [2, /MARTY_AUTH_REQUEST_INVALID/, ['token', 'issue', '--subject', 'alice', ...BY_SECRET, '--ttl', '366d']],
      [
        2,
        /no option "--rol"; did you mean "--role"/,
        ['token', 'issue', '--subject', 'alice', ...BY_SECRET, '--rol', 'viewer']
      ],
      [2, /no command "token isue"; did you mean "marty token issue"/, ['token', 'isue']]
    ],
    [SECRET, 'too short']
  )
})

t.test('a service accepts an issued token', async t => {
  const keys = { signing: { kid: 'k1', algorithm: 'HS256', secret: SECRET } } as const
  const { code, out, err } = await runAsChild([
    'token',
    'issue',
    ...BY_SECRET,
    '--subject',
    'alice',
    '--role',
    'viewer',
    '--role',
    'operator',
    '--scope',
    'read'
  ])
  t.match({ code, err }, { code: 0, err: '' })
  t.match(out, /^[\w-]+\.[\w-]+\.[\w-]+\n$/, 'the token and nothing else')
  t.match(await asked(t, keys, out.trim()), {
    status: 200,
    body: '{"id":"alice","kind":"user","roles":["viewer","operator"],"scopes":["read"]}'
  })

  const issued = JSON.parse(
    (await run('token', 'issue', ...BY_SECRET, '--subject', 'recorder', '--service', '--ttl', '8h', '--json')).out
  ) as { token: string; jti: string; expires_at: string }
  t.match(await asked(t, keys, issued.token), {
    status: 200,
    body: '{"id":"recorder","kind":"service","roles":[],"scopes":[]}'
  })
  t.match(JSON.parse((await run('token', 'inspect', issued.token, '--json')).out), {
    valid: null,
    problem: null,
    claims: { jti: issued.jti, exp: Date.parse(issued.expires_at) / 1000, sub: 'recorder' }
  })
})

t.test('signing keys that rotate', async t => {
  const file = at('signing-keys.json')
  t.match(await run('keys', 'rotate-signing', file), { code: 2, err: /keys rotate-signing needs --algorithm/ })
  t.match(await run('keys', 'rotate-signing', file, '--algorithm', 'ES265'), {
    code: 2,
    err: /--algorithm "ES265" is not known; did you mean "ES256"/
  })
  t.match(await run('keys', 'rotate-signing', file, '--algorithm', 'none'), {
    code: 2,
    err: /--algorithm "none" is not known/
  })
  t.match(await run('keys', 'rotate-signing', at('damaged.json'), '--algorithm', 'ES256'), {
    code: 3,
    err: /damaged\.json/
  })
  t.match(await run('keys', 'rotate-signing', file, '--algorithm', 'ES256', '--overlap', '9999d'), {
    code: 2,
    err: /MARTY_AUTH_OPT_INVALID/
  })

  const first = JSON.parse((await run('keys', 'rotate-signing', file, '--algorithm', 'ES256', '--json')).out) as {
    kid: string
  }
  const old = (await run('token', 'issue', ...DOOR, '--signing-keys', file, '--subject', 'alice')).out.trim()
  const { code, out } = await run(
    'keys',
    'rotate-signing',
    file,
    '--algorithm',
    'EdDSA',
    '--activate-in',
    '0',
    '--overlap',
    '1h'
  )
  t.equal(code, 0)
  t.match(out, /^\S+ signs from \d{4}-\d\d-\d\dT\S+Z\n$/)
  const fresh = (await run('token', 'issue', ...DOOR, '--signing-keys', file, '--subject', 'alice')).out.trim()
  t.match(JSON.parse((await run('token', 'inspect', old, '--json')).out), { header: { alg: 'ES256', kid: first.kid } })
  t.match(JSON.parse((await run('token', 'inspect', fresh, '--json')).out), {
    header: { alg: 'EdDSA', kid: out.split(' ')[0] }
  })
  for (const token of [old, fresh]) t.match(await asked(t, openSigningKeys(file), token), { status: 200 })
  t.match(await run('keys', 'rotate-signing', file, '--algorithm', 'HS256'), {
    code: 3,
    err: /symmetric and asymmetric keys do not mix/
  })
  t.notMatch(
    out,
    (JSON.parse(readFileSync(file, 'utf8')) as { keys: Array<{ privateKey: { d: string } }> }).keys[0]!.privateKey.d,
    'no private part'
  )
})

t.test('token inspect', async t => {
  const token = (await run('token', 'issue', ...BY_SECRET, '--subject', 'alice', '--ttl', '1h')).out.trim()
  const [header, claims] = token.split('.') as [string, string]

  t.match(await run('token', 'inspect'), { code: 2, err: /token inspect needs TOKEN/ })
  for (const nonsense of ['nonsense', 'a.b.c', `${header}.W10.x`, `bnVsbA.${claims}.x`, '']) {
    t.match(await run('token', 'inspect', nonsense), { code: 3, out: /not a token\n$/ }, nonsense)
  }
  t.match(JSON.parse((await run('token', 'inspect', 'a.b.c', '--json')).out), {
    valid: null,
    problem: 'not a token',
    header: null,
    claims: null
  })
  t.match(await run('token', 'inspect', token, '--issuer', 'i'), { code: 2, err: /--audience is missing/ })
  t.match(
    await run(
      'token',
      'inspect',
      token,
      '--issuer',
      'other',
      '--audience',
      'camera-service',
      '--secret-file',
      at('secret'),
      '--kid',
      'k1'
    ),
    { code: 3, out: /iss/ }
  )
  t.match(await run('token', 'inspect', `${header}.${claims}.AAAA`, ...BY_SECRET), { code: 3, out: /signature/ })
  t.match(JSON.parse((await run('token', 'inspect', `${token}x`, ...BY_SECRET, '--json')).out), {
    valid: false,
    problem: /./,
    claims: { sub: 'alice' }
  })

  t.match(await run('token', 'inspect', token), {
    code: 0,
    out: /"sub": "alice"[\s\S]*\niat is \d{4}-\S+\nexp is \d{4}-\S+\nnot checked: give the key to know whether it is good\n$/
  })
  t.match(await run('token', 'inspect', token, ...BY_SECRET), { code: 0, out: /\ngood\n$/ })
  const child = await runAsChild(['token', 'inspect', '-', ...BY_SECRET, '--json'], { input: `${token}\n` })
  t.match(JSON.parse(child.out), { valid: true, problem: null, header: { alg: 'HS256' } })
  t.notOk(child.out.includes(token), 'the token is not printed again')
})

t.test('what a stranger wrote into a token steers no terminal', async t => {
  const claims = { sub: 'a\u001b[2J\u009b2J\u202egnp\u2028\u{e0041}b', exp: 1e300 }
  const part = Buffer.from(JSON.stringify(claims)).toString('base64url')
  const { out } = await run('token', 'inspect', `${Buffer.from('{}').toString('base64url')}.${part}.x`, '--json')
  t.notMatch(out, /[^\P{C}\n]|[\p{Zl}\p{Zp}]/u)
  t.match(JSON.parse(out), { claims }, 'and JSON still says the same')
})

t.test('an error that nobody thought of is told in full and ends with 1', async t => {
  let err = ''
  t.equal(
    await runCommandLine(['--help'], {
      out () {
        throw new Error('the pen is dry')
      },
      err: text => {
        err += text
      }
    }),
    1
  )
  t.match(err, /^marty: Error: the pen is dry\n {4}at /)
  err = ''

  t.equal(
    await runCommandLine(['--help'], {
      out () {
        // eslint-disable-next-line no-throw-literal
        throw 'dry'
      },
      err: text => {
        err += text
      }
    }),
    1
  )
  t.equal(err, 'marty: dry\n')
})

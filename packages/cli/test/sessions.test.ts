import { randomBytes } from 'node:crypto'
import { auth } from '@marty/auth'
import Fastify from 'fastify'
import t from 'tap'
import { until } from '@marty/testing'
import { ownRedis, refuses, run, runAsChild } from './run.js'

t.test('sessions: a wrong command line', async t => {
  const here = ['--redis', 'redis://127.0.0.1:1']
  await refuses(t, [
    [2, /say which Redis/, ['sessions', 'list']],
    [2, /did you mean "marty sessions list"/, ['sessions', 'lst']],
    [2, /sessions revoke needs SESSION/, ['sessions', 'revoke', ...here]],
    ...['alice', ':alice', 'user:'].map(
      name => [2, /must be KIND:ID, such as user:alice/, ['sessions', 'list', ...here, '--principal', name]] as const
    ),
    [2, /kind "usr" is not known; did you mean "user"/, ['sessions', 'revoke', 'usr:alice', ...here]]
  ])
})

t.test('sessions of a service are listed and ended', async t => {
  const { url, client } = await ownRedis(t)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(auth, {
    issuer: 'i',
    audience: 'a',
    routes: true,
    store: { redis: client },
    keys: { signing: { kid: 'k1', algorithm: 'HS256', secret: randomBytes(32) } }
  })
  await app.ready()
  const signIn = async (subject: string): Promise<string> => {
    const { token } = app.auth.tokens.issue({ subject, role: 'viewer' })
    const { headers } = await app.inject({
      method: 'POST',
      url: '/auth/session',
      headers: { authorization: `Bearer ${token}` }
    })
    return String(headers['set-cookie']).split(';')[0]!
  }
  const status = async (cookie: string): Promise<number> =>
    (await app.inject({ url: '/auth/session', headers: { cookie } })).statusCode

  t.match(await run('sessions', 'list', '--redis', url), { code: 0, out: 'There are no sessions.\n' })
  t.match(JSON.parse((await run('sessions', 'list', '--redis', url, '--json')).out), [])
  const [alice, alsoAlice, bob] = [await signIn('alice'), await signIn('alice'), await signIn('bob')]
  const listed = await runAsChild(['sessions', 'list'], { env: { MARTY_REDIS_URL: url } })
  t.match(listed, {
    code: 0,
    err: '',
    out: /^SESSION +PRINCIPAL +ROLES +LAST USED +ENDS +ADDRESS\n(\S+ +user:(alice|bob) +viewer +\S+Z +\S+Z +127\.0\.0\.1\n){3}$/
  })
  for (const cookie of [alice, alsoAlice, bob]) {
    t.notOk(listed.out.includes(cookie.split('=')[1]!), 'no session is given away')
  }

  t.match(await run('sessions', 'revoke', '0'.repeat(43), '--redis', url), {
    code: 5,
    out: '',
    err: /there is no such session; name one as "marty sessions list" does/
  })
  t.match(
    await run('sessions', 'revoke', bob.split('=')[1]!, '--redis', url, '--json'),
    { code: 5, out: '{\n  "ended": 0\n}\n', err: /^((?!ses_).)*$/s },
    'the id itself is no name'
  )
  t.equal(await status(bob), 200)

  const [{ key }] = JSON.parse(
    (await run('sessions', 'list', '--redis', url, '--principal', 'user:bob', '--json')).out
  ) as [{ key: string }]
  t.match(await run('sessions', 'revoke', key, '--redis', url), { code: 0, out: '1 session is over\n' })
  await until(async () => (await status(bob)) === 401, 'the session of bob to be over')
  t.equal(await status(alice), 200, 'others go on')
  t.match(await run('sessions', 'revoke', 'user:alice', '--redis', url), { code: 0, out: '2 sessions are over\n' })
  await until(
    async () => (await status(alice)) === 401 && (await status(alsoAlice)) === 401,
    'the sessions of alice to be over'
  )
  t.match(JSON.parse((await run('sessions', 'revoke', 'user:alice', '--redis', url, '--json')).out), { ended: 0 })
  t.match(await run('sessions', 'list', '--redis', url, '--redis-prefix', 'other'), {
    code: 0,
    out: 'There are no sessions.\n'
  })
})

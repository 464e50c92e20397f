import { randomBytes } from 'node:crypto'
import { chmodSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { auth, createRedisApiKeyStore, openFileApiKeyStore, type ApiKeyStore } from '@marty/auth'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { freePort, until } from '@marty/testing'
import { ownRedis, refuses, run, runAsChild } from './run.js'

const PEPPER = randomBytes(32).toString('base64')
const folder = t.testdir({
  pepper: `${PEPPER}\n`,
  'damaged.json': '{',
  'open.json': '{"version":1,"keys":[]}',
  'empty.json': '{"version":1,"keys":[]}'
})
const at = (name: string): string => join(folder, name)
for (const name of ['damaged.json', 'empty.json']) chmodSync(at(name), 0o600)
chmodSync(at('open.json'), 0o644)

const FORMAT = ['--pepper-file', at('pepper'), '--prefix', 'mrt', '--environment', 'test']

async function service (t: Test, store: ApiKeyStore): Promise<(key: string) => Promise<number>> {
  const app: FastifyInstance = Fastify()
  t.teardown(() => app.close())
  await app.register(auth, {
    issuer: 'i',
    audience: 'a',
    keys: { signing: { kid: 'k1', algorithm: 'HS256', secret: PEPPER } },
    apiKeys: { store, prefix: 'mrt', environment: 'test', pepper: PEPPER }
  })
  app.get('/who', { config: { security: { authenticate: ['apiKey'] } } }, async request => request.principal)
  return async key => (await app.inject({ url: '/who', headers: { 'x-api-key': key } })).statusCode
}

t.test('keys: a wrong command line, file or id', async t => {
  const create = ['keys', 'create', ...FORMAT, '--name', 'recorder', '--expires', '1h']
  await refuses(t, [
    [2, /keys create needs --pepper-file, --prefix, --environment, --name, --expires/, ['keys', 'create']],
    [2, /say which Redis: --redis redis:\/\/HOST:PORT, or the variable MARTY_REDIS_URL/, create],
    [2, /give either --file or --redis/, [...create, '--file', at('keys.json'), '--redis', 'redis://127.0.0.1:1']],
    [
      2,
      /"cidrs" contains "nowhere".*MARTY_AUTH_REQUEST_INVALID/,
      [...create, '--file', at('keys.json'), '--cidr', 'nowhere']
    ],
    [
      2,
      /--expires "soon" is not a time/,
      ['keys', 'create', ...FORMAT, '--name', 'n', '--file', at('keys.json'), '--expires', 'soon']
    ],
    [
      2,
      /expiresInSeconds/,
      ['keys', 'create', ...FORMAT, '--name', 'n', '--file', at('keys.json'), '--expires', '366d']
    ],
    [
      2,
      /"pepper"|pepper.*MARTY_AUTH_OPT_INVALID/,
      [
        'keys',
        'create',
        '--pepper-file',
        at('damaged.json'),
        '--prefix',
        'mrt',
        '--environment',
        'test',
        '--name',
        'n',
        '--expires',
        '1h',
        '--file',
        at('keys.json')
      ]
    ],
    [2, /none\.json cannot be read: there is no such file/, ['keys', 'list', '--file', at('none.json')]],
    [2, /none\.json cannot be read/, ['keys', 'rotate', 'abcdefghijkl', ...FORMAT, '--file', at('none.json')]],
    [3, /not JSON.*MARTY_AUTH_KEY_STORE_INVALID/, ['keys', 'list', '--file', at('damaged.json')]],
    [3, /chmod 600/, ['keys', 'list', '--file', at('open.json')]],
    [2, /keys revoke needs KEYID/, ['keys', 'revoke', '--file', at('empty.json')]],
    [5, /MARTY_AUTH_KEY_NOT_FOUND/, ['keys', 'revoke', 'abcdefghijkl', '--file', at('empty.json')]],
    [5, /MARTY_AUTH_KEY_NOT_FOUND/, ['keys', 'rotate', 'no id at all', ...FORMAT, '--file', at('empty.json')]],
    [2, /did you mean "marty keys revoke"/, ['keys', 'revok']],
    [2, /there are keys create, keys list/, ['keys']]
  ])
  t.match(await run('keys', 'list', '--file', at('empty.json')), { code: 0, out: 'There are no keys.\n' })
  t.match(await run('keys', 'prune', '--file', at('empty.json')), { code: 0, out: 'There was nothing to remove.\n' })
})

t.test('Redis that is not there, or whose address is wrong, and no password is told', async t => {
  const url = `redis://admin:sesame@127.0.0.1:${await freePort()}`
  const away = await Promise.all([
    runAsChild(['keys', 'list'], { env: { MARTY_REDIS_URL: url } }),
    runAsChild(['keys', 'create', ...FORMAT, '--name', 'n', '--expires', '1h', '--redis', url]),
    runAsChild(['sessions', 'list', '--redis', url, '--json']),
    runAsChild(['sessions', 'revoke', 'user:alice', '--redis', url])
  ])
  const wrong = await run('keys', 'list', '--redis', 'http://admin:sesame@localhost')
  t.match(wrong, { code: 2, err: /MARTY_REDIS_OPT_INVALID/ })
  for (const answer of away) t.match(answer, { code: 6, out: '', err: /was not ready.*MARTY_REDIS_UNAVAILABLE/ })
  for (const { err } of [...away, wrong]) t.notMatch(err, /sesame/)
})

async function lifeOfAKey (t: Test, store: readonly string[], status: (key: string) => Promise<number>): Promise<void> {
  const created = await runAsChild([
    'keys',
    'create',
    ...store,
    ...FORMAT,
    '--name',
    'recorder',
    '--role',
    'viewer',
    '--scope',
    'read',
    '--cidr',
    '127.0.0.0/8',
    '--expires',
    '90d'
  ])
  t.match(created, { code: 0, err: '', out: /^mrt_test_\w{12}_\w{43}_\w{6}\n$/ })
  const key = created.out.trim()
  const [, , keyId, secret] = key.split('_') as [string, string, string, string]
  await until(async () => (await status(key)) === 200, 'the service to accept the key')

  const listed = await run('keys', 'list', ...store)
  t.match(
    listed.out,
    new RegExp(`^KEY ID +NAME +ROLES +STATE +LAST USED\n${keyId} +recorder +viewer +until \\d{4}-\\d\\d-\\d\\d +`)
  )
  const json = await run('keys', 'list', ...store, '--json')
  t.match(JSON.parse(json.out), [
    { keyId, name: 'recorder', roles: ['viewer'], scopes: ['read'], cidrs: ['127.0.0.0/8'], activeSecrets: 1 }
  ])
  t.notOk((listed.out + json.out).includes(secret), 'the secret is not shown again')

  t.match(await run('keys', 'rotate', keyId, ...store, ...FORMAT, '--overlap', '8d'), {
    code: 2,
    err: /overlapSeconds/
  })
  const rotated = JSON.parse(
    (await run('keys', 'rotate', keyId, ...store, ...FORMAT, '--overlap', '1h', '--json')).out
  ) as { key: string; keyId: string }
  t.equal(rotated.keyId, keyId)
  await until(async () => (await status(rotated.key)) === 200, 'the service to accept the new secret')
  t.equal(await status(key), 200, 'the old one works for the overlap')
  const last = (await run('keys', 'rotate', keyId, ...store, ...FORMAT, '--overlap', '0')).out.trim()
  await until(
    async () => (await status(key)) === 401 && (await status(rotated.key)) === 401,
    'the old secrets to be refused'
  )
  await until(async () => (await status(last)) === 200, 'the newest secret to be accepted')

  t.match(await run('keys', 'prune', ...store), { code: 0, out: 'There was nothing to remove.\n' })
  t.match(await run('keys', 'revoke', keyId, ...store), { code: 0, out: `${keyId} is revoked\n`, err: '' })
  t.match(
    JSON.parse((await run('keys', 'revoke', keyId, ...store, '--json')).out),
    { keyId, revoked: true },
    'twice is fine'
  )
  await until(async () => (await status(last)) === 401, 'the revoked key to be refused')
  t.match(await run('keys', 'list', ...store), { out: /revoked \d{4}-/ })
  t.match(await run('keys', 'rotate', keyId, ...store, ...FORMAT), { code: 2, err: /revoked or has expired/ })
  t.match(JSON.parse((await run('keys', 'prune', ...store, '--older-than', '30d', '--json')).out), [])
  t.match(await run('keys', 'prune', ...store), { code: 0, out: new RegExp(`\n${keyId} +recorder`) })
  t.match(await run('keys', 'revoke', keyId, ...store), { code: 5, err: /MARTY_AUTH_KEY_NOT_FOUND/ })

  const brief = JSON.parse(
    (await run('keys', 'create', ...store, ...FORMAT, '--name', 'brief', '--expires', '1s', '--json')).out
  ) as { keyId: string }
  await until(async () => (await run('keys', 'list', ...store)).out.includes('expired '), 'the key to expire')
  t.match(await run('keys', 'list', ...store), { out: new RegExp(`${brief.keyId} +brief +- +expired \\S+ +never\n`) })
}

t.test('keys in a file', async t => {
  const file = at('keys/keys.json')
  await lifeOfAKey(t, ['--file', file], await service(t, openFileApiKeyStore(file)))
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.notMatch(readFileSync(file, 'utf8'), /mrt_test_/)
})

t.test('keys in Redis', async t => {
  const { url, client } = await ownRedis(t)
  await lifeOfAKey(
    t,
    ['--redis', url, '--redis-prefix', 'shop:keys'],
    await service(t, createRedisApiKeyStore({ redis: client, prefix: 'shop:keys' }))
  )
  t.match(
    await run('keys', 'list', '--redis', url),
    { code: 0, out: 'There are no keys.\n' },
    'another prefix is another store'
  )
})

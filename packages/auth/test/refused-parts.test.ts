import t from 'tap'
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs'
import { generateKeyPairSync } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { auth, createMemoryApiKeyStore, issueToken, openFileApiKeyStore, type AuthOptions } from '@marty/auth'
import Fastify from 'fastify'
import { bearer, SECRET, secretFor, TOKENS } from '@marty/testing/tokens'
import { build } from './service.js'

const start = async (options: object): Promise<{ code: string, message: string } | null> => {
  const app = Fastify()
  t.teardown(() => app.close())
  return await Promise.resolve(app.register(auth, { ...TOKENS, ...options } as AuthOptions)).then(
    () => null,
    error => error
  )
}

t.test('a store that is none, or whose keys could not be named, stops the start', async t => {
  const redis = { evalsha: async () => null, eval: async () => null, callBuffer: async () => null }
  t.match(await start({ store: { redis: {} } }), {
    code: 'MARTY_AUTH_OPT_INVALID',
    message: /"store\.redis" must be a Redis client/
  })
  for (const prefix of ['', 'with space', 'x'.repeat(65), 5]) {
    t.match(
      await start({ store: { redis, prefix } }),
      { code: 'MARTY_AUTH_OPT_INVALID', message: /"store\.prefix"/ },
      String(prefix)
    )
  }
})

t.test('a key whose public half belongs to another key stops the start', async t => {
  for (const [algorithm, type, options] of [
    ['ES256', 'ec', { namedCurve: 'P-256' }],
    ['RS256', 'rsa', { modulusLength: 2048 }]
  ] as const) {
    const [one, other] = [1, 2].map(() =>
      generateKeyPairSync(type as 'rsa', options as { modulusLength: number }).privateKey.export({ format: 'jwk' })
    )
    const mixed = type === 'ec' ? { ...one, x: other!.x, y: other!.y } : { ...one, n: other!.n }
    const error = await start({ keys: { signing: { kid: 'k1', algorithm, privateKey: mixed } } })
    t.match(error, { code: 'MARTY_AUTH_OPT_INVALID', message: /keys\.signing\.privateKey/ }, algorithm)
  }
})

t.test('a token is issued with options, or not at all', async t => {
  t.throws(() => issueToken(undefined as never, { subject: 'alice', role: 'viewer' }), {
    code: 'MARTY_AUTH_OPT_INVALID',
    message: /option "issuer" is required/
  })
})

t.test('sameOrigin is true or absent', async t => {
  const app = await build(t)
  app.get('/own', { config: { security: { public: true, sameOrigin: false as never } } }, async () => 'ok')
  await t.rejects(async () => await app.ready(), {
    code: /^MARTY_CORE_(RULE_INVALID|ROUTE_UNGUARDED)$/,
    message: /sameOrigin can only be true/
  })
})

t.test('a key file that others may read is not used', async t => {
  const file = join(mkdtempSync(join(tmpdir(), 'auth-key-file-')), 'keys.json')
  writeFileSync(file, '{"version":1,"keys":[]}', { mode: 0o600 })
  chmodSync(file, 0o644)
  t.throws(() => openFileApiKeyStore(file), { code: 'MARTY_AUTH_KEY_STORE_INVALID', message: /may be read by others/ })
})

t.test('signing out ends the refresh token that comes along, when it is one of the caller', async t => {
  const app = await build(t, {
    routes: true,
    refresh: { secret: secretFor('refresh'), clientCredentials: true },
    apiKeys: { store: createMemoryApiKeyStore(), prefix: 'cam', environment: 'test', pepper: SECRET, bcryptCost: 8 }
  })
  const keyOf = async (name: string): Promise<string> =>
    (await app.auth.apiKeys!.create({ name, roles: ['viewer'], expiresInSeconds: 3_600 })).key
  const signIn = async (key: string): Promise<{ access_token: string, refresh_token: string }> =>
    (await app.inject({ method: 'POST', url: '/auth/token', headers: { 'x-api-key': key } })).json()
  const own = await keyOf('own')
  const [here, there, again] = [await signIn(own), await signIn(own), await signIn(own)]
  const theirs = await signIn(await keyOf('theirs'))
  const signOut = async (access: string, refresh: string): Promise<number> =>
    (
      await app.inject({
        method: 'POST',
        url: '/auth/logout',
        headers: bearer(access),
        payload: { refresh_token: refresh }
      })
    ).statusCode
  const renew = async (refresh: string): Promise<number> =>
    (await app.inject({ method: 'POST', url: '/auth/refresh', payload: { refresh_token: refresh } })).statusCode
  t.equal(await signOut(here.access_token, there.refresh_token), 204)
  t.equal(await renew(there.refresh_token), 401)
  t.equal(await signOut(again.access_token, theirs.refresh_token), 204)
  t.equal(await renew(theirs.refresh_token), 200, 'of another caller it stays')
})

import t, { type Test } from 'tap'
import { spawn } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text as readAll } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import { audit } from '@marty/audit'
import { createApiKeys, createSessionStore, createTokenIssuer, createTokenVerifier, openFileApiKeyStore, openSigningKeys } from '@marty/auth'
import { runCommandLine } from '@marty/cli'
import { ANONYMOUS } from '@marty/core'
import { openRedis } from '@marty/redis'
import { freePort, startRedis } from '../../redis/dist-test/redis-server.js'

const folder = mkdtempSync(join(tmpdir(), 'marty-cli-'))
t.teardown(() => { rmSync(folder, { recursive: true }) })
const at = (name: string, content?: string): string => {
  const path = join(folder, name)
  if (content !== undefined) writeFileSync(path, content)
  return path
}
const pepper = at('pepper', 'a pepper of more than thirty-two bytes, for tests\n')
const secret = at('secret', 'a secret of more than thirty-two bytes, for tests\n')

interface Answer { readonly code: number, readonly out: string, readonly err: string }
async function run (...args: string[]): Promise<Answer> {
  let out = ''
  let err = ''
  const code = await runCommandLine(args, { out: text => { out += text }, err: text => { err += text } })
  return { code, out, err }
}

t.test('every command explains itself, and a wrong one is told what is near', async t => {
  const { out } = await run('--help')
  const names = ['token issue', 'token inspect', 'keys create', 'keys list', 'keys rotate', 'keys revoke', 'keys prune', 'keys rotate-signing', 'sessions list', 'sessions revoke', 'audit verify', 'audit tail']
  for (const name of names) {
    t.match(out, name)
    const help = await run(...name.split(' '), '--help')
    t.equal(help.code, 0)
    t.match(help.out, `usage: marty ${name}`)
    t.match(help.out, '--json')
  }
  for (const [args, message] of [
    [['keys', 'lst'], /did you mean "marty keys list"/],
    [['keys', 'create', '--fil', 'x'], /did you mean "--file"/],
    [['keys', 'create'], /needs --pepper-file, --prefix/],
    [['keys', 'revoke'], /needs KEYID/],
    [['keys', 'list'], /MARTY_REDIS_URL/],
    [['keys', 'list', '--file', 'a', '--redis', 'redis://127.0.0.1'], /either --file or --redis/],
    [['keys', 'rotate-signing', at('s.json'), '--algorithm', 'ES265'], /did you mean "ES256"/],
    [['keys', 'rotate-signing', at('s.json'), '--algorithm', 'none'], /known are HS256/],
    [['keys', 'prune', '--file', at('k.json'), '--older-than', 'soon'], /is not a time such as/],
    [['token', 'issue', '--subject', 'a'], /--issuer is missing/],
    [['token', 'issue', '--subject', 'a', '--issuer', 'i', '--audience', 'a'], /--signing-keys FILE, or --secret-file/],
    [['sessions', 'revoke', 'user:', '--redis', 'redis://127.0.0.1:1'], /must be KIND:ID/],
    [['audit', 'verify', at('nothing.log')], /there is no such file/],
    [['audit', 'tail', at('nothing.log')], /there is no such file/],
    [['audit', 'tail', folder], /it is no file/],
    [['audit', 'tail', secret, '--from=-1'], /neither the number of a record/]
  ] as Array<[string[], RegExp]>) {
    const { code, err } = await run(...args)
    t.equal(code, 2, args.join(' '))
    t.match(err, message)
  }
})

t.test('tokens: issued with a secret or a key file, and inspected with or without', async t => {
  const common = ['--issuer', 'https://issuer.test', '--audience', 'cameras']
  const key = ['--secret-file', secret, '--kid', 'k1']
  const issued = await run('token', 'issue', ...common, ...key, '--subject', 'alice', '--role', 'viewer', '--role', 'auditor', '--scope', 'a', '--ttl', '1h', '--service')
  t.equal(issued.code, 0)
  const verify = createTokenVerifier({ issuer: 'https://issuer.test', audience: 'cameras', keys: { signing: { kid: 'k1', algorithm: 'HS256', secret: readFileSync(secret, 'utf8').trim() } } })
  t.match(verify(issued.out.trim()), { sub: 'alice', roles: ['viewer', 'auditor'], scope: 'a', kind: 'service' })
  t.match(JSON.parse((await run('token', 'issue', ...common, ...key, '--subject', 'alice', '--json')).out), { token: String, jti: String, expires_at: String })
  t.equal((await run('token', 'issue', ...common, ...key, '--subject', 'alice', '--ttl', '0')).code, 3)
  t.equal((await run('token', 'issue', ...common, '--secret-file', at('short', 'short'), '--kid', 'k', '--subject', 'alice')).code, 3)

  const token = issued.out.trim()
  const plain = await run('token', 'inspect', token)
  t.equal(plain.code, 0)
  t.match(plain.out, /"sub": "alice"[\s\S]*exp is 2[\s\S]*not checked/)
  t.match((await run('token', 'inspect', token, ...common, ...key)).out, /good/)
  const forged = await run('token', 'inspect', `${token.slice(0, -2)}AA`, ...common, ...key, '--json')
  t.equal(forged.code, 3)
  t.match(JSON.parse(forged.out), { valid: false, problem: /signature|base64url/ })
  t.match(await run('token', 'inspect', 'nonsense'), { code: 3, out: /not a token/ })
  t.match(JSON.parse((await run('token', 'inspect', 'a.b.c', '--json')).out), { problem: 'not a token' })

  const child = spawn(process.execPath, [fileURLToPath(new URL('../dist/marty.js', import.meta.url)), 'token', 'inspect', '-', ...common, ...key])
  child.stdin.end(`${token}\n`)
  t.match(await readAll(child.stdout), /good/, 'from standard input, where no process list shows it')
})

t.test('signing keys rotate with an overlap', async t => {
  const file = at('signing-keys.json')
  const first = await run('keys', 'rotate-signing', file, '--algorithm', 'EdDSA')
  t.equal(first.code, 0)
  const old = createTokenIssuer({ issuer: 'i', audience: 'a', keys: openSigningKeys(file) }).issue({ subject: 'alice' })
  const second = JSON.parse((await run('keys', 'rotate-signing', file, '--algorithm', 'EdDSA', '--activate-in', '0', '--overlap', '1h', '--json')).out)
  t.match(second, { kid: String, algorithm: 'EdDSA', activates_at: String })
  t.equal((await run('token', 'inspect', old.token, '--issuer', 'i', '--audience', 'a', '--signing-keys', file)).code, 0)
  t.match((await run('token', 'issue', '--issuer', 'i', '--audience', 'a', '--signing-keys', file, '--subject', 'bob')).code, 0)
  const mixed = await run('keys', 'rotate-signing', file, '--algorithm', 'HS256')
  t.equal(mixed.code, 3)
  t.match(mixed.err, /symmetric/)
})

async function manageKeys (t: Test, store: string[]): Promise<void> {
  const format = ['--pepper-file', pepper, '--prefix', 'cam', '--environment', 'test']
  t.match((await run('keys', 'list', ...store)).out, 'There are no keys')
  const created = await run('keys', 'create', ...store, ...format, '--name', 'recorder', '--role', 'operator', '--cidr', '192.0.2.0/24', '--expires', '90d', '--json')
  t.equal(created.code, 0)
  const { key, keyId } = JSON.parse(created.out)
  t.match(key, /^cam_test_/)
  const listed = await run('keys', 'list', ...store)
  t.match(listed.out, new RegExp(`${keyId}  recorder  operator  until 2.*never`))
  t.notMatch(listed.out + (await run('keys', 'list', ...store, '--json')).out, key.slice(22, 60), 'no secret is shown again')
  const rotated = await run('keys', 'rotate', keyId, ...store, ...format, '--overlap', '0')
  t.match(rotated.out, new RegExp(`^cam_test_${keyId}_`))
  t.not(rotated.out.trim(), key)
  t.match(await run('keys', 'create', ...store, ...format, '--name', 'x', '--cidr', 'office', '--expires', '1d'), { code: 3, err: /"office".*not a network/ })
  t.match(await run('keys', 'create', ...store, ...format, '--name', 'x', '--expires', '400d'), { code: 3, err: /365 days/ })
  t.match(await run('keys', 'rotate', 'nobody000000', ...store, ...format), { code: 5, err: /MARTY_AUTH_KEY_NOT_FOUND/ })
  t.match((await run('keys', 'prune', ...store)).out, 'nothing to remove')
  t.match(await run('keys', 'revoke', keyId, ...store), { code: 0, out: `${keyId} is revoked\n` })
  t.match((await run('keys', 'list', ...store)).out, /revoked 2/)
  t.match((await run('keys', 'prune', ...store, '--older-than', '30d')).out, 'nothing to remove')
  t.match(JSON.parse((await run('keys', 'prune', ...store, '--json')).out), [{ keyId }])
  t.match(await run('keys', 'revoke', keyId, ...store), { code: 5 })
}

t.test('API keys in a file', async t => {
  const file = at('api-keys.json')
  await manageKeys(t, ['--file', file])
  const keys = createApiKeys({ store: openFileApiKeyStore(file), pepper: readFileSync(pepper, 'utf8').trim(), prefix: 'cam', environment: 'test' })
  const { out } = await run('keys', 'create', '--file', file, '--pepper-file', pepper, '--prefix', 'cam', '--environment', 'test', '--name', 'x', '--expires', '1d')
  t.match(await createApiKeys({ store: openFileApiKeyStore(file), pepper: readFileSync(pepper, 'utf8').trim(), prefix: 'cam', environment: 'test' }).verify(out.trim()), { kind: 'key' }, 'a service takes it')
  await keys.close()
  writeFileSync(file, '{', { mode: 0o600 })
  t.match(await run('keys', 'list', '--file', file), { code: 6, err: /damaged/ })
})

t.test('API keys and sessions in Redis', async t => {
  const server = await startRedis(await freePort())
  const redis = openRedis({ port: server.port })
  t.teardown(async () => { await redis.close(); await server.stop() })
  await redis.ready(5_000)
  const store = ['--redis', `redis://127.0.0.1:${server.port}`]
  await manageKeys(t, [...store, '--redis-prefix', 'test:keys'])

  const sessions = createSessionStore({ redis: redis.client })
  const principal = { ...ANONYMOUS, id: 'alice', kind: 'user' as const, roles: ['viewer'], authenticatedBy: 'jwt' as const }
  t.match((await run('sessions', 'list', ...store)).out, 'There are no sessions')
  await sessions.create(principal, { address: '192.0.2.1' })
  await sessions.create(principal)
  await sessions.create({ ...principal, id: 'bob' })
  t.match((await run('sessions', 'list', ...store)).out, /user:alice {2}viewer.*192\.0\.2\.1/)
  const mine = JSON.parse((await run('sessions', 'list', ...store, '--principal', 'user:alice', '--json')).out)
  t.equal(mine.length, 2)
  t.match(await run('sessions', 'revoke', mine[0].key, ...store), { code: 0, out: '1 session is over\n' })
  t.match(await run('sessions', 'revoke', mine[0].key, ...store), { code: 5 })
  t.match(JSON.parse((await run('sessions', 'revoke', 'user:alice', ...store, '--json')).out), { ended: 1 })
  t.match(await run('sessions', 'list', ...store, '--principal', 'users:alice'), { code: 2, err: /did you mean "user"/ })
  await server.stop()
  t.match(await run('sessions', 'list', ...store), { code: 6, err: /MARTY_REDIS_UNAVAILABLE/ })
})

t.test('the audit log: shown, verified, and the first bad record named', async t => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const pem = at('heads.pem', publicKey.export({ type: 'spki', format: 'pem' }) as string)
  const file = at('audit.log')
  const app = Fastify()
  await app.register(audit, { sink: { file, mode: 'sync' }, heads: { key: privateKey }, product: { name: 'test', version: '1' } })
  await app.ready()
  for (let i = 0; i < 5; i++) await app.audit.record({ type: 'credential', action: 'token.issue', outcome: 'success', reason: null, principal: { id: 'alice', kind: 'user', roles: [] }, address: '192.0.2.1', requestId: `r${i}`, object: `j${i}` })
  await app.close()

  t.match(await run('audit', 'verify', file, '--public-key', pem), { code: 0, out: /is whole: 7 records in 1 file, signed up to record 7/ })
  t.match(await run('audit', 'verify', file, '--heads', `${file}.heads`), { code: 0, out: /no signed head was checked|signed up to/ })
  const shown = await run('audit', 'tail', file, '--from', '3')
  t.equal(shown.out.trim().split('\n').length, 5)
  t.match(shown.out, /^3 {2}2.*success {2}token\.issue {2}alice {2}j1 {2}192\.0\.2\.1/)
  t.match(JSON.parse((await run('audit', 'tail', file, '--json')).out.split('\n')[1]!), { seq: 2, activity_name: 'token.issue' })
  t.equal((await run('audit', 'tail', file, '--from', 'end')).out, '')

  const whole = readFileSync(file, 'utf8')
  writeFileSync(file, whole.replace('"j2"', '"j9"'))
  t.match(await run('audit', 'verify', file, '--public-key', pem), { code: 3, err: /audit\.log:4 \(record 4\): edited/ })
  writeFileSync(file, whole.split('\n').slice(0, 4).join('\n') + '\n')
  t.match(JSON.parse((await run('audit', 'verify', file, '--public-key', pem, '--json')).out), { ok: false, kind: 'truncated' })
  writeFileSync(file, whole)
  appendFileSync(file, '{"seq":8,')
  t.match(await run('audit', 'verify', file, '--public-key', pem), { code: 0, err: /torn/, out: /is whole/ }, 'what a crash leaves is a warning')
})

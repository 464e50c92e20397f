import { execFile } from 'node:child_process'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'

const dataDir = await mkdtemp(join(tmpdir(), 'camera-service-'))
const program =
  (name: string) =>
    (...args: string[]): Promise<{ stdout: string, stderr: string }> =>
      promisify(execFile)(process.execPath, [resolve(import.meta.dirname, '../dist', name), ...args], {
        env: { ...process.env, CAMERA_SERVICE_DATA_DIR: dataDir }
      })
const run = program('commands/token.js')
const apiKey = program('commands/api-key.js')
const claimsOf = (token: string): Record<string, unknown> => JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())

t.test('wrong arguments: the message names the mistake and the right use, exit 2, no token', async t => {
  for (const [args, words] of [
    [[], /--role is missing/],
    [['--role', 'operatr'], /did you mean operator\?/],
    [['--role', 'admin', '--ttl', '15'], /--ttl 15/],
    [['--roll', 'x'], /--roll/]
  ] as const) {
    await t.rejects(run(...args), { code: 2, stderr: words, stdout: '' })
  }
})

t.test('prints one token and no other output', async t => {
  const { stdout, stderr } = await run('--role', 'operator', '--user', 'alice', '--ttl', '5m')
  t.match(stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/)
  t.equal(stderr, '')
  const claims = claimsOf(stdout)
  t.match(claims, { sub: 'alice', user_id: 'alice', role: 'operator', roles: ['operator'], iss: 'camera-service', aud: 'camera-service' })
  t.equal((claims['exp'] as number) - (claims['iat'] as number), 300)
  t.equal(claimsOf((await run('--role', 'viewer')).stdout)['sub'], 'viewer')
})

t.test('API keys: wrong arguments are refused with help and exit 2', async t => {
  for (const [args, words] of [
    [[], /a command is missing/],
    [['creat'], /did you mean create\?/],
    [['create', '--role', 'viewer'], /--name is missing/],
    [['create', '--name', 'x'], /--role is missing/],
    [['revoke'], /needs the id/],
    [['list', 'x'], /takes no id/],
    [['create', '--name', 'x', '--role', 'viewer', '--ttl', '1y'], /--ttl 1y/]
  ] as const) {
    await t.rejects(apiKey(...args), { code: 2, stderr: words, stdout: '' })
  }
  await t.rejects(apiKey('create', '--name', 'x', '--role', 'viewer', '--ttl', '366d'), { code: 1 })
  await t.rejects(apiKey('revoke', 'aaaaaaaaaaaa'), { code: 1 })
})

t.test('API keys: created, listed without their secret, rotated, revoked', async t => {
  t.match((await apiKey('list')).stdout, 'There are no keys.')
  const key = (await apiKey('create', '--name', 'recorder', '--role', 'operator')).stdout.trim()
  t.match(key, /^cam_development_[A-Za-z0-9]{12}_[A-Za-z0-9]{43}_[A-Za-z0-9]{6}$/)
  const [info] = JSON.parse((await apiKey('list', '--json')).stdout)
  t.match(info, { name: 'recorder', roles: ['operator'], revokedAt: null })
  t.notMatch((await apiKey('list', '--json')).stdout, key.split('_')[3]!)
  t.not((await apiKey('rotate', info.keyId)).stdout.trim(), key)
  await apiKey('revoke', info.keyId)
  t.match((await apiKey('list')).stdout, /revoked/)
})

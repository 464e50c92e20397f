import { execFile } from 'node:child_process'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'

const dataDir = await mkdtemp(join(tmpdir(), 'camera-service-'))
const command = resolve(import.meta.dirname, '../dist/token.js')
const run = (...args: string[]): Promise<{ stdout: string, stderr: string }> =>
  promisify(execFile)(process.execPath, [command, ...args], { env: { ...process.env, CAMERA_SERVICE_DATA_DIR: dataDir } })
const claimsOf = (token: string): Record<string, unknown> => JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())

t.test('wrong arguments: what is wrong, how it is meant, exit 2, no token', async t => {
  for (const [args, words] of [[[], /--role is missing/], [['--role', 'operatr'], /did you mean operator\?/], [['--role', 'admin', '--ttl', '15'], /--ttl 15/], [['--roll', 'x'], /--roll/]] as const) {
    await t.rejects(run(...args), { code: 2, stderr: words, stdout: '' })
  }
})

t.test('prints one token and nothing else', async t => {
  const { stdout, stderr } = await run('--role', 'operator', '--user', 'alice', '--ttl', '5m')
  t.match(stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/)
  t.equal(stderr, '')
  const claims = claimsOf(stdout)
  t.match(claims, { sub: 'alice', user_id: 'alice', role: 'operator', roles: ['operator'], iss: 'camera-service', aud: 'camera-service' })
  t.equal((claims['exp'] as number) - (claims['iat'] as number), 300)
  t.equal(claimsOf((await run('--role', 'viewer')).stdout)['sub'], 'viewer')
})

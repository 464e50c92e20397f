import { randomBytes } from 'node:crypto'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually, freePort, startRedis } from '@marty/testing'
import t from 'tap'
import { rotateSigningKeys } from '@marty/auth'
import { startService, type RunningService } from './running-service.js'

t.setTimeout(300_000)

const post = async (
  service: RunningService,
  path: string,
  body: object,
  headers: Record<string, string> = {}
): Promise<Response> =>
  await fetch(`http://127.0.0.1:${service.ports.SERVER_PORT}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body)
  })
const bearer = (token: string): { authorization: string } => ({ authorization: `Bearer ${token}` })

t.test('an API key is exchanged for tokens; signing out ends them on the open connection and at the stream', async t => {
  const service = await startService()
  const key = await service.apiKey('create', '--name', 'wall', '--role', 'operator')
  t.equal((await post(service, '/auth/token', {})).status, 401)
  const answer = await post(service, '/auth/token', {}, { 'x-api-key': key })
  t.equal(answer.headers.get('cache-control'), 'no-store')
  const {
    access_token: access,
    refresh_token: refresh,
    expires_in: seconds
  } = (await answer.json()) as { access_token: string, refresh_token: string, expires_in: number }
  t.equal(seconds, 900)

  const renewed = (await (await post(service, '/auth/refresh', { refresh_token: refresh })).json()) as {
    access_token: string
    refresh_token: string
  }
  const client = await service.connect()
  t.match(await client.call('authenticate', { auth_token: renewed.access_token }), { authenticated: true, role: 'operator' })
  await eventually(async () => {
    const status = await client.call('get_camera_status', { device: 'camera0' })
    if (status.stream_status !== 'READY') throw new Error(JSON.stringify(status))
  })
  const { streams } = await client.call('get_stream_url', { device: 'camera0' })
  const hls = new URL(streams.hls)
  const status = async (): Promise<number> => (await fetch(hls)).status
  t.equal(await status(), 200)

  t.equal((await post(service, '/auth/logout', {}, bearer(renewed.access_token))).status, 204)
  await t.rejects(client.call('get_camera_list'), { code: -32001 })
  t.equal((await post(service, '/auth/refresh', { refresh_token: renewed.refresh_token })).status, 401)
  t.equal((await post(service, '/auth/refresh', { refresh_token: refresh })).status, 401)
  const me = await fetch(`http://127.0.0.1:${service.ports.SERVER_PORT}/auth/me`, { headers: bearer(access) })
  t.equal(me.status, 401, 'the family is over')
  t.equal(await status(), 401, 'its stream addresses begin nothing new')
  client.close()
  await service.stop()
})

t.test('two instances on one Redis: what one revokes the other refuses, also on open connections', async t => {
  const redisPort = await freePort()
  const redis = await startRedis(redisPort)
  t.teardown(() => redis.stop())
  const env = {
    CAMERA_SERVICE_REDIS_URL: `redis://127.0.0.1:${redisPort}`,
    CAMERA_SERVICE_JWT_SECRET: randomBytes(32).toString('base64'),
    CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'never'
  }
  const [first, second] = await Promise.all([startService({ env }), startService({ env })])
  const token = await first.token('viewer', '--user', 'alice')
  const client = await second.connect()
  const { session_id: session } = await client.call('authenticate', { auth_token: token })
  t.match(session, /^ses_/)
  const me = async (service: RunningService, credential: string): Promise<number> =>
    (await fetch(`http://127.0.0.1:${service.ports.SERVER_PORT}/auth/me`, { headers: bearer(credential) })).status
  t.equal(await me(first, session), 200, 'a session of one is a session of the other')
  t.equal((await post(first, '/auth/logout', {}, bearer(token))).status, 204)
  await eventually(async () => {
    const answer = await client.call('get_camera_list').then(() => 'answered', error => error.code)
    if (answer !== -32001) throw new Error(String(answer))
  })
  await eventually(async () => { if (await me(second, session) !== 401) throw new Error('the session lives') })
  client.close()
  await Promise.all([first.stop(), second.stop()])
})

t.test('signing key rotation: old tokens stay valid, new ones use the new key, and clients can fetch it', async t => {
  const dataDir = await mkdtemp(join(tmpdir(), 'camera-service-'))
  const file = join(dataDir, 'signing-keys.json')
  await rotateSigningKeys(file, { algorithm: 'ES256' })
  const service = await startService({
    dataDir,
    env: { CAMERA_SERVICE_SECURITY_JWT_SIGNING_KEYS_FILE: file, CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'never' }
  })
  const before = await service.token('viewer')
  const { kid } = await rotateSigningKeys(file, { algorithm: 'ES256', activatesInSeconds: 0 })
  const after = await service.token('viewer')
  t.match(JSON.parse(Buffer.from(after.split('.')[0]!, 'base64url').toString()), { alg: 'ES256', kid })
  for (const token of [before, after]) {
    await eventually(async () => {
      const { status } = await fetch(`http://127.0.0.1:${service.ports.SERVER_PORT}/auth/me`, { headers: bearer(token) })
      if (status !== 200) throw new Error(String(status))
    })
  }
  const { keys } = (await (
    await fetch(`http://127.0.0.1:${service.ports.SERVER_PORT}/.well-known/jwks.json`)
  ).json()) as { keys: Array<{ kid: string, d?: string }> }
  t.equal(keys.length, 2)
  t.ok(keys.some(key => key.kid === kid) && keys.every(key => key.d === undefined))
  await service.stop()
})

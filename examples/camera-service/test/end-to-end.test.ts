import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { eventually } from '@marty/testing'
import t from 'tap'
import { RpcClient, type RpcFailure } from './rpc-client.js'
import { ffprobe, startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

// One service for the whole file: it is started once, as an operator does, and driven through its doors only.
const plenty = '100000'
const service = await startService({
  env: {
    CAMERA_SERVICE_SECURITY_RATE_LIMITING_REQUESTS_PER_MINUTE_DEFAULT: plenty,
    CAMERA_SERVICE_SECURITY_RATE_LIMITING_REQUESTS_PER_MINUTE_VIEWER: plenty,
    CAMERA_SERVICE_SECURITY_RATE_LIMITING_REQUESTS_PER_MINUTE_OPERATOR: plenty,
    CAMERA_SERVICE_SECURITY_RATE_LIMITING_FAILED_LOGINS_PER_5_MINUTES: plenty
  }
})
t.teardown(() => service.stop())

const http = `http://127.0.0.1:${service.ports.SERVER_PORT}`
const refused = async (call: Promise<unknown>): Promise<RpcFailure> =>
  await call.then(
    () => {
      throw new Error('was not refused')
    },
    error => error
  )
const ready = async (client: RpcClient, device: string): Promise<void> => {
  await eventually(async () => {
    const { stream_status: status } = await client.call('get_camera_status', { device })
    if (status !== 'READY') throw new Error(`${device} is ${status}`)
  }, 60_000)
}

t.test('without a sign-in, only ping is allowed', async t => {
  const client = await service.connect()
  t.equal(await client.call('ping'), 'pong')
  for (const method of ['get_camera_list', 'list_recordings', 'list_snapshots']) {
    t.equal((await refused(client.call(method))).code, -32001, method)
  }
  for (const method of ['get_camera_status', 'get_stream_url', 'take_snapshot', 'start_recording', 'stop_recording']) {
    t.equal((await refused(client.call(method, { device: 'camera0' }))).code, -32001, method)
  }
  client.close()
})

t.test('altered, expired and malformed tokens get the same refusal, and the connection stays open', async t => {
  const client = await service.connect()
  const good = await service.token('operator')
  const [header, payload, signature] = good.split('.') as [string, string, string]
  const admin = Buffer.from(Buffer.from(payload, 'base64url').toString().replace('"operator"', '"admin"')).toString('base64url')
  const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'at+jwt' })).toString('base64url')
  for (const token of [`${header}.${admin}.${signature}`, `${none}.${payload}.`, `${good}x`, 'x'.repeat(32), 'a.b.c', '', ' ']) {
    const failure = await refused(client.call('authenticate', { auth_token: token }))
    t.ok([-32001, -32602].includes(failure.code), `${failure.code} for ${token.slice(0, 12)}`)
    t.notMatch(JSON.stringify(failure.data), /signature|expired|algorithm/i)
  }
  t.equal((await refused(client.call('get_camera_list'))).code, -32001)
  t.equal(await client.call('ping'), 'pong')
  client.close()
  t.notMatch(service.output(), good.slice(0, 60), 'no token is logged')
})

t.test('a token expires while connected: the next call is refused, and the connection can sign in again', async t => {
  const client = await service.connect()
  const short = await service.token('viewer', '--ttl', '3s')
  await client.call('authenticate', { auth_token: short })
  t.equal((await client.call('get_camera_list')).total, 1)
  const failure = await eventually(async () => await refused(client.call('get_camera_list')))
  t.equal(failure.code, -32001)
  t.equal((await refused(client.call('authenticate', { auth_token: short }))).code, -32001)
  t.equal(await client.call('ping'), 'pong')
  await client.call('authenticate', { auth_token: await service.token('viewer') })
  t.equal((await client.call('get_camera_list')).total, 1)
  client.close()
})

t.test('malformed messages get the standard errors, and the connection stays open', async t => {
  const client = await service.connect('viewer')
  t.match(await client.raw('{"jsonrpc":"2.0","id":1,'), { id: null, error: { code: -32700 } })
  t.match(await client.raw('{"jsonrpc":"1.0","method":"ping","id":"x"}'), { error: { code: -32600 } })
  t.match(await client.raw('[]'), { error: { code: -32600 } })
  t.equal((await refused(client.call('get_camera_lst'))).code, -32601)
  const wrong = await refused(client.call('get_camera_status', { devise: 'camera0' }))
  t.equal(wrong.code, -32602)
  t.match(JSON.stringify(wrong.data), 'device')
  t.equal((await refused(client.call('get_camera_status', { device: 7 }))).code, -32602)
  for (const device of ['camera99', '../etc/passwd', '/dev/video0', 'cs/camera0', '__proto__']) {
    t.equal((await refused(client.call('get_camera_status', { device }))).code, -32010, device)
  }
  t.equal(await client.call('ping'), 'pong')
  client.close()
})

t.test('a viewer may watch but not control', async t => {
  const client = await service.connect('viewer')
  const { cameras, total, connected } = await client.call('get_camera_list')
  t.equal(total, 1)
  t.equal(connected, 1)
  t.match(cameras[0], { device: 'camera0', status: 'CONNECTED', name: 'Test pattern', resolution: '640x360', fps: 15 })
  for (const [method, params] of [
    ['take_snapshot', { device: 'camera0' }],
    ['start_recording', { device: 'camera0', duration: 2 }],
    ['stop_recording', { device: 'camera0' }]
  ] as const) {
    const failure = await refused(client.call(method, params))
    t.equal(failure.code, -32002, method)
  }
  client.close()
})

t.test('video over RTSP, HLS and WebRTC needs a token', async t => {
  const client = await service.connect('viewer')
  await ready(client, 'camera0')
  const { streams, stream_url: url, stream_status: status } = await client.call('get_stream_url', { device: 'camera0' })
  t.equal(status, 'READY')
  t.equal(url, streams.rtsp)

  const { streams: found } = await ffprobe(streams.rtsp, '-rtsp_transport', 'tcp')
  t.match(found, [{ codec_name: 'h264', width: 640, height: 360 }])
  await t.rejects(ffprobe(streams.rtsp.replace(/\/\/.*@/, '//'), '-rtsp_transport', 'tcp'), /401/)
  await t.rejects(ffprobe(streams.rtsp.replace(/:[^:@/]+@/, `:${'A'.repeat(43)}@`), '-rtsp_transport', 'tcp'), /401/)

  const hls = await ffprobe(streams.hls)
  t.match(hls.streams, [{ codec_name: 'h264' }])
  t.equal((await fetch(streams.hls.split('?')[0]!)).status, 401)

  const whep = (target: string): Promise<Response> =>
    fetch(target, { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: 'v=0' })
  t.equal((await whep(streams.webrtc.split('?')[0]!)).status, 401)
  t.not((await whep(streams.webrtc)).status, 401, 'let in; what it says of a bad offer is its own affair')

  const other = await client.call('get_camera_list')
  t.notMatch(JSON.stringify(other), /token=|viewer:/, 'lists carry no credential')
  client.close()
})

t.test('publishing and controlling MediaMTX need its secret', async t => {
  const client = await service.connect('viewer')
  const { streams } = await client.call('get_stream_url', { device: 'camera0' })
  const token = new URL(streams.hls).searchParams.get('token')
  for (const [port, path] of [
    [service.ports.MEDIAMTX_API_PORT, '/v3/paths/list'],
    [service.ports.MEDIAMTX_METRICS_PORT, '/metrics'],
    [service.ports.MEDIAMTX_PLAYBACK_PORT, '/list?path=cs/camera0']
  ] as const) {
    t.equal((await fetch(`http://127.0.0.1:${port}${path}`)).status, 401, path)
    t.equal(
      (await fetch(`http://127.0.0.1:${port}${path}`, { headers: { authorization: `Bearer ${token}` } })).status,
      401,
      `${path} with a viewer's token`
    )
  }
  t.equal(
    (await fetch(`http://127.0.0.1:${service.ports.MEDIAMTX_AUTH_PORT}/`, { method: 'POST' })).status,
    404,
    'the auth listener has no door at /'
  )
  client.close()
})

t.test('a snapshot is a real JPEG of the stream, listed, and downloaded with ranges', async t => {
  const client = await service.connect('operator')
  await ready(client, 'camera0')
  const shot = await client.call('take_snapshot', { device: 'camera0', quality: 90 })
  t.match(shot, { device: 'camera0', status: 'SUCCESS', format: 'jpg', resolution: '640x360' })
  t.notMatch(JSON.stringify(shot), service.dataDir, 'no path of the machine is told')

  const { files, total } = await client.call('list_snapshots', {})
  t.equal(total, 1)
  t.match(files[0], { filename: shot.filename, file_size: shot.file_size, download_url: shot.download_url })

  const authorization = `Bearer ${await service.token('viewer')}`
  t.equal((await fetch(http + shot.download_url)).status, 401)
  const whole = await fetch(http + shot.download_url, { headers: { authorization } })
  t.equal(whole.status, 200)
  t.equal(whole.headers.get('content-type'), 'image/jpeg')
  const bytes = Buffer.from(await whole.arrayBuffer())
  t.equal(bytes.length, shot.file_size)
  t.same([...bytes.subarray(0, 3)], [0xff, 0xd8, 0xff])

  const part = await fetch(http + shot.download_url, { headers: { authorization, range: 'bytes=0-9' } })
  t.equal(part.status, 206)
  t.equal(part.headers.get('content-range'), `bytes 0-9/${bytes.length}`)
  t.same(Buffer.from(await part.arrayBuffer()), bytes.subarray(0, 10))

  const png = await client.call('take_snapshot', { device: 'camera0', format: 'png' })
  t.match(await ffprobe(join(service.dataDir, 'snapshots', png.filename)), { streams: [{ codec_name: 'png', width: 640, height: 360 }] })
  t.equal((await refused(client.call('take_snapshot', { device: 'camera0', quality: 0 }))).code, -32602)
  t.equal((await refused(client.call('take_snapshot', { device: 'camera0', filename: '../../x' }))).code, -32602)
  client.close()
})

t.test('file names cannot escape their folder', async t => {
  const headers = { authorization: `Bearer ${await service.token('admin')}` }
  for (const name of [
    '..%2f..%2fsecrets%2fjwt.key',
    '%2e%2e%2flibrary.sqlite',
    '..',
    '.',
    'x%00',
    'jwt.key',
    '%2Fetc%2Fpasswd',
    '..\\secrets',
    'a'.repeat(300)
  ]) {
    for (const kind of ['recordings', 'snapshots']) {
      const answer = await fetch(`${http}/files/${kind}/${name}`, { headers })
      t.ok([400, 404, 414].includes(answer.status), `${answer.status} for ${kind}/${name.slice(0, 30)}`)
    }
  }
})

t.test('a recording stops at its duration, is playable, and notifies the clients that may watch', async t => {
  const client = await service.connect('operator')
  const onlooker = await service.connect('viewer')
  await ready(client, 'camera0')
  const started = await client.call('start_recording', { device: 'camera0', duration: 4 })
  t.match(started, { device: 'camera0', status: 'STARTED', format: 'fmp4', duration: 4 })
  const again = await refused(client.call('start_recording', { device: 'camera0' }))
  t.equal(again.code, -32020)
  t.equal((await onlooker.call('get_camera_status', { device: 'camera0' })).recording, true)

  const event = await eventually(() => {
    const found = onlooker.notifications.find(
      ({ method, params }) => method === 'recording_status_update' && params['status'] === 'STOPPED'
    )
    if (found === undefined) throw new Error('not stopped yet')
    return found
  })
  t.equal(event.params['filename'], started.filename)
  const { files } = await onlooker.call('list_recordings', { limit: 10 })
  t.match(files, [{ filename: started.filename, device: 'camera0', format: 'fmp4' }])
  t.ok(Math.abs(files[0].duration - 4) < 2.5, `${files[0].duration} s for 4`)
  const path = join(service.dataDir, 'recordings', started.filename)
  t.match(await ffprobe(path), { streams: [{ codec_name: 'h264', width: 640, height: 360 }] })
  const download = await fetch(http + files[0].download_url, { headers: { authorization: `Bearer ${await service.token('viewer')}` } })
  t.equal(download.headers.get('content-type'), 'video/mp4')
  t.same(Buffer.from(await download.arrayBuffer()), await readFile(path))

  const untimed = await client.call('start_recording', { device: 'camera0' })
  await eventually(async () => {
    const { elapsed_time: seconds } = await client.call('get_camera_status', { device: 'camera0' })
    if (seconds < 2) throw new Error('too short')
  })
  const stopped = await client.call('stop_recording', { device: 'camera0' })
  t.match(stopped, { filename: untimed.filename, status: 'STOPPED', format: 'fmp4' })
  t.ok(stopped.file_size > 0 && stopped.duration > 0)
  t.equal((await refused(client.call('stop_recording', { device: 'camera0' }))).code, -32020)
  for (const duration of [0, -1, 86401, '5', null]) {
    t.equal(
      (await refused(client.call('start_recording', { device: 'camera0', duration }))).code,
      -32602,
      String(duration)
    )
  }
  t.equal((await refused(client.call('list_recordings', { limit: 1001 }))).code, -32602)
  client.close()
  onlooker.close()
})

t.test('health reports the components', async t => {
  const get = async (
    path: string
  ): Promise<{
    status: number
    body: { status: string, timestamp: string, components: Record<string, { status: string, details: string }> }
  }> => {
    const answer = await fetch(`http://127.0.0.1:${service.ports.HEALTH_PORT}/health/${path}`)
    return { status: answer.status, body: (await answer.json()) as never }
  }
  for (const path of ['live', 'ready', 'system', 'cameras', 'mediamtx']) {
    const { status, body } = await get(path)
    t.equal(status, 200, path)
    t.equal(body.timestamp, new Date(body.timestamp).toISOString())
    t.equal(typeof body.components, 'object')
  }
  t.match((await get('mediamtx')).body.components['mediamtx'], { status: 'healthy', details: /^1 of 1 streams online/ })
  t.match((await get('cameras')).body.components['cameras'], { status: 'healthy', details: '1 of 1 connected' })
  t.equal((await fetch(`http://127.0.0.1:${service.ports.HEALTH_PORT}/nothing`)).status, 404)
})

t.test('an API key created while the service runs works for WebSocket and HTTP until it is revoked', async t => {
  const key = await service.apiKey('create', '--name', 'tests', '--role', 'viewer')
  const keyId = key.split('_')[2]!
  const client = await service.connect()
  t.match(await eventually(() => client.call('authenticate', { auth_token: key })), { authenticated: true, role: 'viewer' })
  t.equal((await client.call('get_camera_list')).total, 1)
  const get = async (headers: Record<string, string>): Promise<number> => (await fetch(`${http}/auth/me`, { headers })).status
  t.equal(await get({ 'x-api-key': key }), 200)
  t.equal(await get({ authorization: `Bearer ${key}` }), 200)
  t.equal(await get({ 'x-api-key': `${key.slice(0, -1)}${key.endsWith('a') ? 'b' : 'a'}` }), 401)
  await service.apiKey('revoke', keyId)
  await eventually(async () => {
    if (await get({ 'x-api-key': key }) !== 401) throw new Error('still let in over HTTP')
    if ((await refused(client.call('get_camera_list'))).code !== -32001) throw new Error('still let in over WebSocket')
  })
  client.close()
})

t.test('a client signs in again with its session id; secrets are stored in private files', async t => {
  const client = await service.connect()
  const {
    session_id: session,
    role,
    permissions,
    expires_at: expires
  } = await client.call('authenticate', { auth_token: await service.token('operator') })
  t.equal(role, 'operator')
  t.ok(permissions.includes('recording:control'))
  t.ok(Date.parse(expires) > Date.now())
  client.close()
  const back = await service.connect()
  t.match(await back.call('authenticate', { auth_token: session }), { authenticated: true, role: 'operator' })
  t.equal((await back.call('get_camera_list')).total, 1)
  back.close()
  const mode = async (file: string): Promise<number> => (await stat(join(service.dataDir, file))).mode & 0o777
  t.equal(await mode('secrets/jwt.key'), 0o600)
  t.equal(await mode('secrets'), 0o700)
  t.equal(await mode('mediamtx.json'), 0o600)
})

t.test('the log and the audit trail contain no credentials', async t => {
  const client = await service.connect()
  const token = await service.token('operator')
  const key = await service.apiKey('create', '--name', 'leak', '--role', 'viewer')
  const { session_id: session } = await client.call('authenticate', { auth_token: token })
  const { streams } = await client.call('get_stream_url', { device: 'camera0' })
  await ffprobe(streams.rtsp, '-rtsp_transport', 'tcp')
  await fetch(streams.hls)
  await fetch(`${http}/auth/me?token=${token}`, { headers: { 'x-api-key': key } })
  await fetch(`${http}/files/snapshots/nothing?token=${token}`, { headers: { authorization: `Bearer ${token}` } })
  client.close()
  const audit = await eventually(async () => {
    const text = await readFile(join(service.dataDir, 'audit.log'), 'utf8')
    if (!text.includes('take_snapshot')) throw new Error('the audit trail does not tell of the snapshot yet')
    return text
  })
  const secrets = [
    token,
    token.split('.')[2]!,
    key.split('_')[3]!,
    session,
    new URL(streams.hls).searchParams.get('token')!,
    (await readFile(join(service.dataDir, 'secrets/jwt.key'), 'utf8')).trim()
  ]
  for (const secret of secrets) {
    t.notOk(service.output().includes(secret), 'not in the log')
    t.notOk(audit.includes(secret), 'not in the audit trail')
  }
})

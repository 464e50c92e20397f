import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp } from 'node:fs/promises'
import { request } from 'node:https'
import { connect as tcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as tls } from 'node:tls'
import { eventually, freePort, startRedis } from '@marty/testing'
import { selfSigned } from '@marty/testing/certificates'
import t from 'tap'
import { RpcClient } from './rpc-client.js'
import { startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const opens = (port: number, host: string): Promise<boolean> => new Promise(resolve => {
  const socket = tcp(port, host, () => {
    socket.destroy()
    resolve(true)
  })
  socket.once('error', () => { resolve(false) })
})

t.test('ports listen on 127.0.0.1 unless server.host opens them, with a warning; internal MediaMTX ports never open', async t => {
  // 127.0.0.2 is this machine too, but not the address bound by default.
  const closed = await startService()
  const publicPorts = ['SERVER_PORT', 'HEALTH_PORT', 'MEDIAMTX_RTSP_PORT', 'MEDIAMTX_HLS_PORT', 'MEDIAMTX_WEBRTC_PORT'] as const
  const ownPorts = ['MEDIAMTX_API_PORT', 'MEDIAMTX_METRICS_PORT', 'MEDIAMTX_PLAYBACK_PORT', 'MEDIAMTX_AUTH_PORT'] as const
  for (const name of [...publicPorts, ...ownPorts]) {
    await eventually(async () => { if (!await opens(closed.ports[name], '127.0.0.1')) throw new Error(`${name} is not open`) })
    t.equal(await opens(closed.ports[name], '127.0.0.2'), false, name)
  }
  t.notMatch(closed.output(), 'without TLS')
  await closed.stop()

  const open = await startService({ env: { CAMERA_SERVICE_SERVER_HOST: '0.0.0.0', CAMERA_SERVICE_SERVER_PUBLIC_HOST: 'cameras.example' } })
  for (const name of publicPorts) {
    await eventually(async () => {
      if (!(await opens(open.ports[name], '127.0.0.2'))) throw new Error(`${name} is not open`)
    })
  }
  for (const name of ownPorts) t.equal(await opens(open.ports[name], '127.0.0.2'), false, name)
  t.match(open.output(), /Warning: server\.host 0\.0\.0\.0 opens every port to the network without TLS/)
  const client = await open.connect('viewer')
  const { streams } = await client.call('get_stream_url', { device: 'camera0' })
  for (const url of Object.values<string>(streams)) t.equal(new URL(url).hostname, 'cameras.example')
  client.close()
  await open.stop()
})

t.test('with a certificate: https and wss in TLS 1.3 only', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'camera-service-'))
  const { certFile, keyFile, cert: ca } = selfSigned(folder, 'localhost')
  const service = await startService({
    env: {
      CAMERA_SERVICE_SECURITY_SSL_ENABLED: 'true',
      CAMERA_SERVICE_SECURITY_SSL_CERT_FILE: certFile,
      CAMERA_SERVICE_SECURITY_SSL_KEY_FILE: keyFile
    }
  })
  const port = service.ports.SERVER_PORT
  t.match(service.output(), `https://127.0.0.1:${port}/`)
  const client = await RpcClient.connect(`wss://127.0.0.1:${port}/ws`, { ca })
  await client.call('authenticate', { auth_token: await service.token('viewer') })
  t.equal((await client.call('get_camera_list')).total, 1)
  await eventually(async () => {
    if ((await client.call('get_camera_status', { device: 'camera0' })).stream_status !== 'READY') {
      throw new Error('not ready')
    }
  }, 60_000)
  const { streams } = await client.call('get_stream_url', { device: 'camera0' })
  const status = (method: string, url: string): Promise<number | undefined> => new Promise((resolve, reject) => {
    request(url, { ca, method, headers: { 'content-type': 'application/sdp' } }, response => {
      response.resume()
      resolve(response.statusCode)
    }).once('error', reject).end()
  })
  t.match(streams, { hls: /^https:/, webrtc: /^https:/ }, 'a page served over https may not reach out over http')
  t.equal(await status('GET', streams.hls), 302)
  t.equal(await status('POST', streams.webrtc.split('?')[0]), 401)
  client.close()
  const old = tls({ port, host: '127.0.0.1', ca, maxVersion: 'TLSv1.2' })
  await t.rejects(once(old, 'secureConnect'), 'TLS 1.2 is refused')
  await t.rejects(fetch(`http://127.0.0.1:${port}/`), 'plain http is refused')
  await service.stop()
})

t.test('a missing certificate: the error names the file and the setting, exit 1', async t => {
  const service = await startService({
    env: {
      CAMERA_SERVICE_SECURITY_SSL_ENABLED: 'true',
      CAMERA_SERVICE_SECURITY_SSL_CERT_FILE: '/nowhere/cert.pem',
      CAMERA_SERVICE_SECURITY_SSL_KEY_FILE: '/nowhere/key.pem'
    },
    dontWait: true
  })
  t.match(await service.exited, { code: 1 })
  t.match(service.output(), /security\.ssl\.cert_file.*\/nowhere\/cert\.pem/)
})

t.test('two instances on one Redis share one exact limit, and keep working without Redis', async t => {
  const redisPort = await freePort()
  const redis = await startRedis(redisPort)
  t.teardown(() => redis.stop())
  const env = {
    CAMERA_SERVICE_REDIS_URL: `redis://127.0.0.1:${redisPort}`,
    CAMERA_SERVICE_JWT_SECRET: randomBytes(32).toString('base64'),
    CAMERA_SERVICE_CAMERAS_TEST_PATTERN: 'never'
  }
  const services = await Promise.all([startService({ env }), startService({ env })])
  const [first, second] = services
  const token = await first.token('viewer', '--user', 'shared')
  const clients = await Promise.all(services.map(service => service.connect()))
  let admitted = 0
  for (const client of clients) {
    await client.call('authenticate', { auth_token: token })
    admitted++
  }
  for (let i = 0, refused = 0; refused < 2; i++) {
    await clients[i % 2]!.call('get_camera_list').then(() => { admitted++ }, error => {
      t.equal(error.code, -32040)
      refused++
    })
  }
  t.equal(admitted, 60)

  await redis.stop()
  const another = await second.connect('viewer')
  t.equal((await another.call('get_camera_list')).total, 0, 'limits are local now')
  await eventually(async () => {
    const system = (await (await fetch(`http://127.0.0.1:${second.ports.HEALTH_PORT}/health/system`)).json()) as {
      components: { redis: { status: string } }
    }
    if (system.components.redis.status !== 'degraded') throw new Error(JSON.stringify(system.components.redis))
  })
  for (const client of [...clients, another]) client.close()
  await Promise.all(services.map(service => service.stop()))
})

import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually, freePort } from '@marty/testing'
import t from 'tap'
import { startRtspCamera } from './rtsp-camera.js'
import { startService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

// As awkward as MediaMTX, which plays the camera here, lets a password be.
const PASSWORD = 'p@s#s^w$1x'

t.test('a network camera with special characters in its password works, and the password never appears', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'network-camera-'))
  const [port, nobody] = [await freePort(), await freePort()]
  const config = join(folder, 'camera-service.yaml')
  await writeFile(config, `cameras:
  network:
    - { name: Front door, url: 'rtsp://viewer:${encodeURIComponent(PASSWORD)}@127.0.0.1:${port}/stream' }
    - { name: Back door, url: 'rtsp://viewer:secret@127.0.0.1:${nobody}/stream' }
    - { name: Side door, url: 'rtsp://viewer:wrong-password@127.0.0.1:${port}/side' }
`)
  let camera = await startRtspCamera(folder, port, PASSWORD)
  t.teardown(() => camera.stop())
  const service = await startService({ env: { CAMERA_SERVICE_CONFIG: config } })
  t.teardown(() => { service.process.kill('SIGKILL') })
  const client = await service.connect('operator')
  const until = (device: string, status: string): Promise<unknown> => eventually(async () => {
    const answer = await client.call('get_camera_status', { device })
    if (answer.status !== status) throw new Error(JSON.stringify(answer))
    return answer
  }, 60_000)

  await until('camera0', 'CONNECTED')
  t.match(await client.call('get_camera_list'), {
    total: 3,
    connected: 1,
    cameras: [
      { name: 'Front door', resolution: '320x240' },
      { name: 'Back door', status: 'DISCONNECTED', detail: /./ },
      { name: 'Side door', status: 'DISCONNECTED' }
    ]
  })
  t.match(await client.call('take_snapshot', { device: 'camera0' }), { status: 'SUCCESS', resolution: '320x240' })
  await t.rejects(client.call('take_snapshot', { device: 'camera1' }), { code: -32020 })

  client.notifications.length = 0
  await camera.stop()
  await until('camera0', 'DISCONNECTED')
  t.ok(
    client.notifications.some(
      ({ method, params }) =>
        method === 'camera_status_update' && params['device'] === 'camera0' && params['status'] === 'DISCONNECTED'
    )
  )
  camera = await startRtspCamera(folder, port, PASSWORD)
  await until('camera0', 'CONNECTED')

  const seen =
    JSON.stringify([
      await client.call('get_camera_list'),
      await client.call('get_stream_url', { device: 'camera0' }),
      client.notifications
    ]) +
    service.output() +
    (await readFile(join(service.dataDir, 'audit.log'), 'utf8'))
  for (const secret of [PASSWORD, encodeURIComponent(PASSWORD), 'viewer:secret', 'wrong-password']) {
    t.notOk(seen.includes(secret), 'no password is told or logged')
  }
  client.close()
  await service.stop()
  await camera.stop()
})

t.test('a network camera that is configured twice stops the start', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'network-camera-'))
  const config = join(folder, 'camera-service.yaml')
  await writeFile(
    config,
    "cameras:\n  network:\n    - { name: A, url: 'rtsp://a:b@192.0.2.1/x' }\n    - { name: B, url: " +
      "'rtsp://192.0.2.1/x' }\n"
  )
  const service = await startService({ env: { CAMERA_SERVICE_CONFIG: config }, dontWait: true })
  t.match(await service.exited, { code: 1 })
  t.match(service.output(), 'cameras.network: "A" and "B" have the same address')
})

t.test('a URL that MediaMTX would refuse stops the start, and the message omits its password', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'network-camera-'))
  const config = join(folder, 'camera-service.yaml')
  const urls = [
    'rtsp://cam:SeCr3t^x@192.0.2.1/',
    'rtsp://cam:SeCr3t%x@192.0.2.1/',
    'rtsp://cam:SeCr3t#x@192.0.2.1/',
    'rtsp://',
    'rtsp://192.0.2.1:99999/',
    'http://192.0.2.1/'
  ]
  await writeFile(config, `cameras:\n  network:\n${urls.map(url => `    - { name: A, url: '${url}' }\n`).join('')}`)
  const service = await startService({ env: { CAMERA_SERVICE_CONFIG: config }, dontWait: true })
  t.match(await service.exited, { code: 1 })
  urls.forEach((_, index) => t.match(service.output(), `${config}:${index + 3}:`))
  t.notMatch(service.output(), 'SeCr3t')
})

import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findMediaMtx } from '@marty/camera-service/mediamtx/process.js'
import { startChild, type Child } from '@marty/camera-service/media/child.js'
import { shipped } from '@marty/camera-service/project.js'
import t from 'tap'
import { eventually, freePorts, startService } from './running-service.js'

// For a machine that hangs; nothing here is about speed.
t.setTimeout(900_000)

// As awkward as MediaMTX, which plays the camera here, lets a password be.
const PASSWORD = 'p@s#s^w$1x'

/** A network camera: another MediaMTX that wants user and password, and an ffmpeg in front of a pattern. */
async function startCamera (folder: string, port: number): Promise<{ stop (): Promise<void> }> {
  const { binary } = await findMediaMtx(process.env['MEDIAMTX_BIN'] ?? '', process.env['PATH'] ?? '', shipped.mediamtx)
  if (binary === null) throw new Error('MediaMTX is not there: run "npm run setup -- --for test"')
  const file = join(folder, 'camera.json')
  await writeFile(file, JSON.stringify({
    rtspAddress: `127.0.0.1:${port}`,
    rtspTransports: ['tcp'],
    rtmp: false,
    hls: false,
    webrtc: false,
    srt: false,
    moq: false,
    authInternalUsers: [
      { user: 'any', permissions: [{ action: 'publish' }] },
      { user: 'viewer', pass: PASSWORD, permissions: [{ action: 'read' }] }
    ],
    paths: { all_others: {} }
  }))
  const server = await startChild({ command: binary.path, args: [file] })
  const ffmpeg = await eventually(async (): Promise<Child> => {
    const child = await startChild({
      command: 'ffmpeg',
      args: ['-loglevel', 'error', '-nostdin', '-re', '-f', 'lavfi', '-i', 'testsrc2=size=320x240:rate=10', '-c:v', 'libx264', '-preset', 'ultrafast',
        '-tune', 'zerolatency', '-g', '10', '-pix_fmt', 'yuv420p', '-f', 'rtsp', '-rtsp_transport', 'tcp', `rtsp://127.0.0.1:${port}/stream`]
    })
    const early = await Promise.race([child.ended, new Promise<null>(resolve => setTimeout(resolve, 1000, null))])
    if (early !== null) throw new Error('the camera could not publish yet')
    return child
  })
  return {
    async stop () {
      await ffmpeg.stop()
      await server.stop()
    }
  }
}

t.test('a network camera with an awkward password is shown, photographed, lost and found again; its password never appears', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'network-camera-'))
  const { SERVER_PORT: port, HEALTH_PORT: nobody } = await freePorts()
  const config = join(folder, 'camera-service.yaml')
  await writeFile(config, `cameras:
  network:
    - { name: Front door, url: 'rtsp://viewer:${encodeURIComponent(PASSWORD)}@127.0.0.1:${port}/stream' }
    - { name: Back door, url: 'rtsp://viewer:secret@127.0.0.1:${nobody}/stream' }
    - { name: Side door, url: 'rtsp://viewer:wrong-password@127.0.0.1:${port}/side' }
`)
  let camera = await startCamera(folder, port)
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
  t.match(await client.call('get_camera_list'), { total: 3, connected: 1, cameras: [{ name: 'Front door', resolution: '320x240' }, { name: 'Back door', status: 'DISCONNECTED', detail: /./ }, { name: 'Side door', status: 'DISCONNECTED' }] })
  t.match(await client.call('take_snapshot', { device: 'camera0' }), { status: 'SUCCESS', resolution: '320x240' })
  await t.rejects(client.call('take_snapshot', { device: 'camera1' }), { code: -32020 })

  client.notifications.length = 0
  await camera.stop()
  await until('camera0', 'DISCONNECTED')
  t.ok(client.notifications.some(({ method, params }) => method === 'camera_status_update' && params['device'] === 'camera0' && params['status'] === 'DISCONNECTED'))
  camera = await startCamera(folder, port)
  await until('camera0', 'CONNECTED')

  const seen = JSON.stringify([await client.call('get_camera_list'), await client.call('get_stream_url', { device: 'camera0' }), client.notifications]) +
    service.output() + await readFile(join(service.dataDir, 'audit.log'), 'utf8')
  for (const secret of [PASSWORD, encodeURIComponent(PASSWORD), 'viewer:secret', 'wrong-password']) t.notOk(seen.includes(secret), 'no password is told or logged')
  client.close()
  await service.stop()
  await camera.stop()
})

t.test('an address listed twice is refused before the start', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'network-camera-'))
  const config = join(folder, 'camera-service.yaml')
  await writeFile(config, "cameras:\n  network:\n    - { name: A, url: 'rtsp://a:b@192.0.2.1/x' }\n    - { name: B, url: 'rtsp://192.0.2.1/x' }\n")
  const service = await startService({ env: { CAMERA_SERVICE_CONFIG: config }, dontWait: true })
  t.match(await service.exited, { code: 1 })
  t.match(service.output(), 'cameras.network: "A" and "B" have the same address')
})

t.test('a URL MediaMTX would refuse is refused before the start, without its password', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'network-camera-'))
  const config = join(folder, 'camera-service.yaml')
  const urls = ['rtsp://cam:SeCr3t^x@192.0.2.1/', 'rtsp://cam:SeCr3t%x@192.0.2.1/', 'rtsp://cam:SeCr3t#x@192.0.2.1/', 'rtsp://', 'rtsp://192.0.2.1:99999/', 'http://192.0.2.1/']
  await writeFile(config, `cameras:\n  network:\n${urls.map(url => `    - { name: A, url: '${url}' }\n`).join('')}`)
  const service = await startService({ env: { CAMERA_SERVICE_CONFIG: config }, dontWait: true })
  t.match(await service.exited, { code: 1 })
  urls.forEach((_, index) => t.match(service.output(), `${config}:${index + 3}:`))
  t.notMatch(service.output(), 'SeCr3t')
})

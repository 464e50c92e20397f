import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually, freePort } from '@marty/testing'
import t, { type Test } from 'tap'
import type { RpcClient } from './rpc-client.js'
import { startRtspCamera, type RtspCamera } from './rtsp-camera.js'
import { ffprobe, startService, type RunningService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const PASSWORD = 'watch-me'
const DEADLINE_MS = 120_000

interface Scene {
  readonly camera: RtspCamera
  readonly service: RunningService
  readonly client: RpcClient
  readonly config: string
}

const folder = await mkdtemp(join(tmpdir(), 'recording-outage-'))

async function scene (env: Record<string, string> = {}, dataDir?: string): Promise<Scene> {
  const port = await freePort()
  const config = join(folder, `camera-${port}.yaml`)
  await writeFile(config, 'cameras:\n  network:\n    - { name: Yard, url: ' +
    `'rtsp://viewer:${PASSWORD}@127.0.0.1:${port}/stream' }\n`)
  const camera = await startRtspCamera(folder, port, PASSWORD)
  t.teardown(() => camera.stop())
  const plenty = { CAMERA_SERVICE_SECURITY_RATE_LIMITING_REQUESTS_PER_MINUTE_OPERATOR: '100000' }
  const service = await startService({
    env: { CAMERA_SERVICE_CONFIG: config, ...plenty, ...env },
    ...(dataDir === undefined ? {} : { dataDir })
  })
  t.teardown(() => { service.process.kill('SIGKILL') })
  const client = await service.connect('operator')
  const made = { camera, service, client, config }
  await until(made, { status: 'CONNECTED', stream_status: 'READY' })
  return made
}

async function until ({ client }: Scene, wanted: Record<string, unknown>): Promise<void> {
  await eventually(async () => {
    const answer = await client.call('get_camera_status', { device: 'camera0' })
    for (const [key, value] of Object.entries(wanted)) if (answer[key] !== value) throw new Error(`${key}: ${JSON.stringify(answer)}`)
  }, DEADLINE_MS)
}

const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))
const mediaMtxPid = async ({ service }: Scene): Promise<number> => Number(await readFile(join(service.dataDir, 'mediamtx.pid'), 'utf8'))
const told = ({ client }: Scene, status: string): number =>
  client.notifications.filter(({ method, params }) => method === 'recording_status_update' && params['status'] === status).length
/**
 * Whether footage has been written after the last interruption: long enough for the media server to have begun a file.
 */
const recordsAgain = async (now: Scene): Promise<void> => {
  await until(now, { recording: true, recording_status: 'RECORDING' })
  await pause(3000)
}

/**
 * Stops the recording; every file plays, is listed, and there are at least as many as the camera's times of being
 * there.
 */
async function stopped (t: Test, now: Scene, atLeast: number): Promise<void> {
  const answer = await now.client.call('stop_recording', { device: 'camera0' })
  t.equal(answer.status, 'STOPPED')
  t.ok(answer.files.length >= atLeast, `${answer.files.length} files, at least ${atLeast}`)
  const { files: listed } = await now.client.call('list_recordings', {})
  for (const { filename } of answer.files) {
    t.match(await ffprobe(join(now.service.dataDir, 'recordings', filename)), { streams: [{ codec_name: 'h264', width: 320 }] })
    t.ok(listed.some((file: { filename: string }) => file.filename === filename), `${filename} is listed`)
  }
  t.match(await now.client.call('get_camera_status', { device: 'camera0' }), { recording: false, recording_status: 'OFF' })
}

t.test('a recording of a network camera survives every interruption and reports its state', async t => {
  const now = await scene()
  const { camera, client } = now
  t.match(await client.call('get_camera_status', { device: 'camera0' }), { recording: false, recording_status: 'OFF' })

  await t.test('the stream is interrupted for 0.4 s, twice within a second', async t => {
    const started = await client.call('start_recording', { device: 'camera0' })
    await until(now, { recording: true, recording_status: 'RECORDING', recording_file: started.filename })
    for (let i = 0; i < 2; i++) {
      await camera.loseStream()
      await pause(400)
      await camera.restoreStream()
    }
    await recordsAgain(now)
    t.equal(told(now, 'STOPPED'), 0)
    await stopped(t, now, 2)
  })

  await t.test('the camera is reachable but sends nothing for longer than MediaMTX waits', async t => {
    client.notifications.length = 0
    await client.call('start_recording', { device: 'camera0' })
    process.kill(camera.lensPid(), 'SIGSTOP')
    await until(now, { recording: true, recording_status: 'WAITING_FOR_CAMERA' })
    await until(now, { recording: true, status: 'DISCONNECTED' })
    t.match(await client.call('get_camera_list'), { cameras: [{ recording: true, recording_status: 'WAITING_FOR_CAMERA' }] })
    t.equal(told(now, 'WAITING'), 1)
    process.kill(camera.lensPid(), 'SIGCONT')
    await camera.loseStream()
    await camera.restoreStream()
    await recordsAgain(now)
    t.equal(told(now, 'RESUMED'), 1)
    t.equal(told(now, 'STOPPED'), 0)
    await stopped(t, now, 2)
  })

  await t.test('MediaMTX is killed three times', async t => {
    client.notifications.length = 0
    await client.call('start_recording', { device: 'camera0' })
    for (let i = 0; i < 3; i++) {
      await pause(2000)
      const pid = await mediaMtxPid(now)
      process.kill(pid, 'SIGKILL')
      await eventually(async () => { if (await mediaMtxPid(now) === pid) throw new Error('not started again yet') }, DEADLINE_MS)
      await until(now, { recording: true, recording_status: 'WAITING_FOR_CAMERA' }).catch(() => { /* back before anybody could look */ })
      await recordsAgain(now)
    }
    t.equal(told(now, 'STOPPED'), 0)
    await stopped(t, now, 4)
  })

  await t.test('the operator stops the recording during an outage; its duration ends during an outage', async t => {
    await client.call('start_recording', { device: 'camera0' })
    await pause(2000)
    await camera.loseStream()
    await until(now, { recording: true, recording_status: 'WAITING_FOR_CAMERA' })
    await stopped(t, now, 1)

    await camera.restoreStream()
    await until(now, { stream_status: 'READY' })
    client.notifications.length = 0
    const timed = await client.call('start_recording', { device: 'camera0', duration: 6 })
    await camera.loseStream()
    await eventually(() => { if (told(now, 'STOPPED') !== 1) throw new Error('not stopped') }, DEADLINE_MS)
    const { files } = await client.call('list_recordings', {})
    t.equal(files[0].filename, timed.filename)
    t.match(await client.call('get_camera_status', { device: 'camera0' }), {
      recording: false,
      recording_status: 'OFF',
      status: 'DISCONNECTED'
    })
    // The camera is back, the recording is not.
    await camera.restoreStream()
    await until(now, { stream_status: 'READY', recording: false })
  })

  client.close()
  await now.service.stop()
  await camera.stop()
})

t.test('the service is stopped during an outage: the earlier footage is kept', async t => {
  const dataDir = await mkdtemp(join(tmpdir(), 'camera-service-'))
  const now = await scene({}, dataDir)
  const { filename } = await now.client.call('start_recording', { device: 'camera0' })
  await pause(2000)
  await now.camera.loseStream()
  await until(now, { recording_status: 'WAITING_FOR_CAMERA' })
  await now.service.stop()
  await now.camera.stop()

  const again = await startService({ dataDir, env: { CAMERA_SERVICE_CONFIG: now.config } })
  const viewer = await again.connect('viewer')
  const { files } = await viewer.call('list_recordings', {})
  t.match(files, [{ filename }])
  t.equal(files.length, 1)
  t.match(await ffprobe(join(dataDir, 'recordings', filename)), { streams: [{ codec_name: 'h264' }] })
  viewer.close()
  await again.stop()
})

import { randomBytes } from 'node:crypto'
import { readFile, writeFile, mkdtemp, chmod } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from '@marty/testing'
import t from 'tap'
import { ffprobe, freeServicePorts, processesMentioning, startService, type RunningService } from './running-service.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

const health = async (service: RunningService, path: string): Promise<{ status: number, text: string }> => {
  const answer = await fetch(`http://127.0.0.1:${service.ports.HEALTH_PORT}/health/${path}`)
  return { status: answer.status, text: await answer.text() }
}

async function holdPort (port: number): Promise<() => void> {
  const server = createServer()
  await new Promise<void>(resolve => { server.listen(port, '127.0.0.1', resolve) })
  return () => { server.close() }
}

t.test('a killed MediaMTX is restarted with the same cameras, and an active recording continues', async t => {
  const service = await startService()
  const client = await service.connect('operator')
  const status = async (): Promise<{ stream_status: string }> => await client.call('get_camera_status', { device: 'camera0' })
  const untilReady = (): Promise<void> => eventually(async () => {
    if ((await status()).stream_status !== 'READY') throw new Error('not ready')
  }, 60_000)
  await untilReady()
  const recording = await client.call('start_recording', { device: 'camera0' })
  const before = await readFile(join(service.dataDir, 'mediamtx.pid'), 'utf8')
  process.kill(Number(before), 'SIGKILL')

  await eventually(async () => {
    if ((await health(service, 'mediamtx')).status === 200 && (await status()).stream_status === 'READY') throw new Error('not seen yet')
  })
  await untilReady()
  t.not(await readFile(join(service.dataDir, 'mediamtx.pid'), 'utf8'), before)
  t.match(service.output(), /MediaMTX has ended; restarting it/)
  t.match(await client.call('get_camera_list'), { cameras: [{ device: 'camera0', name: 'Test pattern', status: 'CONNECTED' }], total: 1 })
  const stopped = await client.call('stop_recording', { device: 'camera0' })
  t.equal(stopped.filename, recording.filename)
  t.ok(stopped.files.length >= 1, 'what was recorded before the kill is kept')
  for (const { filename } of stopped.files) {
    t.match(await ffprobe(join(service.dataDir, 'recordings', filename)), { streams: [{ codec_name: 'h264' }] })
  }
  client.close()
  await service.stop()
})

t.test('SIGTERM closes everything, finishes recordings and leaves no process behind', async t => {
  const dataDir = await mkdtemp(join(tmpdir(), 'camera-service-'))
  const service = await startService({ dataDir })
  const client = await service.connect('operator')
  await eventually(async () => {
    if ((await client.call('get_camera_status', { device: 'camera0' })).stream_status !== 'READY') throw new Error('not ready')
  }, 60_000)
  await client.call('start_recording', { device: 'camera0' })
  const closed = new Promise<number>(resolve => client.socket.once('close', resolve))
  t.ok((await processesMentioning(`:${service.ports.MEDIAMTX_RTSP_PORT}/cs/`)).length > 0, 'ffmpeg runs')
  await service.stop()
  t.equal(await closed, 1001)
  t.same(await processesMentioning(dataDir), [], 'no mediamtx')
  t.same(await processesMentioning(`:${service.ports.MEDIAMTX_RTSP_PORT}/cs/`), [], 'no ffmpeg')

  const again = await startService({ dataDir })
  const { files } = await (await again.connect('viewer')).call('list_recordings', {})
  t.equal(files.length, 1, 'the recording was finished and is remembered')
  await again.stop()
})

t.test('after a kill -9 of the service the next start cleans up and finishes the recording', async t => {
  const dataDir = await mkdtemp(join(tmpdir(), 'camera-service-'))
  const ports = await freeServicePorts()
  const service = await startService({ dataDir, ports })
  const client = await service.connect('operator')
  await eventually(async () => {
    if ((await client.call('get_camera_status', { device: 'camera0' })).stream_status !== 'READY') throw new Error('not ready')
  }, 60_000)
  await client.call('start_recording', { device: 'camera0' })
  await eventually(async () => {
    if ((await client.call('get_camera_status', { device: 'camera0' })).elapsed_time < 3) throw new Error('too short')
  })
  service.process.kill('SIGKILL')
  await service.exited

  const again = await startService({ dataDir, ports })
  const viewer = await again.connect('viewer')
  const { files } = await viewer.call('list_recordings', {})
  t.equal(files.length, 1)
  t.ok(files[0].duration > 0)
  t.match(await viewer.call('get_camera_list'), { cameras: [{ device: 'camera0' }], total: 1 }, 'the same camera ' +
    'under the same id')
  viewer.close()
  await again.stop()
})

t.test('a port in use: the error names the port and the setting, exit 1, no process is left behind', async t => {
  const ports = await freeServicePorts()
  const release = [await holdPort(ports.SERVER_PORT), await holdPort(ports.MEDIAMTX_RTSP_PORT)]
  const service = await startService({ ports, dontWait: true })
  t.match(await service.exited, { code: 1 })
  t.match(service.output(), `port ${ports.SERVER_PORT} (server.port) is in use`)
  t.match(service.output(), `port ${ports.MEDIAMTX_RTSP_PORT} (mediamtx.rtsp_port) is in use`, 'all at once')
  t.same(await processesMentioning(service.dataDir), [])
  for (const free of release) free()
})

t.test('an invalid configuration: all mistakes are listed with their places, exit 1', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'camera-service-'))
  const file = join(folder, 'camera-service.yaml')
  await writeFile(file, [
    'server:',
    '  prt: 8002',
    '  max_connections: many',
    'cameras:',
    '  test_pattern: sometimes',
    'security:',
    '  jwt:',
    '    secret_key: $' + '{NOT_SET_ANYWHERE}'
  ].join('\n'))
  const service = await startService({ env: { CAMERA_SERVICE_CONFIG: file }, dontWait: true })
  t.match(await service.exited, { code: 1 })
  const output = service.output()
  t.match(output, `${file}:2:3`)
  t.match(output, /did you mean "?port"?/)
  for (const line of [3, 5, 8]) t.match(output, `${file}:${line}:`)
})

t.test('without ffmpeg and MediaMTX the service starts; its output and health say what to install', async t => {
  const folder = await mkdtemp(join(tmpdir(), 'camera-service-'))
  const broken = join(folder, 'mediamtx')
  await writeFile(broken, '#!/bin/sh\nexit 3\n')
  await chmod(broken, 0o755)
  const service = await startService({
    env: { CAMERA_SERVICE_FFMPEG_FFMPEG: join(folder, 'ffmpeg'), CAMERA_SERVICE_MEDIAMTX_BINARY: broken }
  })
  t.match(service.output(), /MediaMTX was not found.*npm run setup/)
  t.match(service.output(), /apt-get install ffmpeg/)
  t.equal((await health(service, 'live')).status, 200)
  t.equal((await health(service, 'ready')).status, 503)
  t.match((await health(service, 'mediamtx')).text, /unhealthy.*npm run setup/)
  t.match((await health(service, 'system')).text, /apt-get install ffmpeg/)
  const client = await service.connect('operator')
  t.equal((await client.call('get_camera_list')).total, 1)
  await t.rejects(client.call('take_snapshot', { device: 'camera0' }), { code: -32050 })
  client.close()
  await service.stop()
})

t.test('a second service on the same data folder is refused and does not disturb the first', async t => {
  const first = await startService()
  const client = await first.connect('operator')
  const pid = await eventually(async () => {
    if ((await client.call('get_camera_status', { device: 'camera0' })).stream_status !== 'READY') throw new Error('not ready')
    return await readFile(join(first.dataDir, 'mediamtx.pid'), 'utf8')
  }, 60_000)
  for (const ports of [first.ports, await freeServicePorts()]) {
    const second = await startService({ dataDir: first.dataDir, ports, dontWait: true })
    t.match(await second.exited, { code: 1 })
    t.match(second.output(), 'is in use: another camera service runs on the same data_dir')
  }
  t.equal(await readFile(join(first.dataDir, 'mediamtx.pid'), 'utf8'), pid)
  t.equal((await client.call('get_camera_status', { device: 'camera0' })).stream_status, 'READY')
  client.close()
  await first.stop()
})

t.test('signals during the start, and several consecutive signals, leave no process behind', async t => {
  const dataDir = await mkdtemp(join(tmpdir(), 'camera-service-'))
  const early = await startService({ dataDir, dontWait: true })
  await eventually(() => { if (!early.output().includes('policy loaded')) throw new Error('not begun') })
  for (let i = 0; i < 3; i++) early.process.kill('SIGTERM')
  t.match(await early.exited, { code: 0 })
  t.same(await processesMentioning(dataDir), [])

  const service = await startService({ dataDir })
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGTERM'] as const) service.process.kill(signal)
  t.match(await service.exited, { code: 0 })
  t.same(await processesMentioning(dataDir), [])
  t.same(await processesMentioning(`:${service.ports.MEDIAMTX_RTSP_PORT}/cs/`), [])
})

t.test('a frozen MediaMTX is replaced; until then calls fail with -32050 and health is unhealthy', async t => {
  const service = await startService()
  const client = await service.connect('operator')
  const untilReady = (): Promise<void> => eventually(async () => {
    if ((await client.call('get_camera_status', { device: 'camera0' })).stream_status !== 'READY') throw new Error('not ready')
  }, 60_000)
  await untilReady()
  const pid = Number(await readFile(join(service.dataDir, 'mediamtx.pid'), 'utf8'))
  process.kill(pid, 'SIGSTOP')
  await eventually(async () => { if ((await health(service, 'mediamtx')).status !== 503) throw new Error('not seen yet') })
  await t.rejects(client.call('take_snapshot', { device: 'camera0' }), { code: -32050 })
  await eventually(async () => {
    if (Number(await readFile(join(service.dataDir, 'mediamtx.pid'), 'utf8').catch(() => pid)) === pid) throw new Error('not replaced yet')
  }, 60_000)
  await untilReady()
  client.close()
  await service.stop()
})

t.test('environment variables do not override the MediaMTX configuration, and child processes do not receive secrets', async t => {
  const service = await startService({
    env: { MTX_AUTHMETHOD: 'internal', MTX_API: 'no', CAMERA_SERVICE_JWT_SECRET: randomBytes(32).toString('base64') }
  })
  const client = await service.connect('viewer')
  await eventually(async () => {
    if ((await client.call('get_camera_status', { device: 'camera0' })).stream_status !== 'READY') throw new Error('not ready')
  }, 60_000)
  await t.rejects(ffprobe(`rtsp://127.0.0.1:${service.ports.MEDIAMTX_RTSP_PORT}/cs/camera0`, '-rtsp_transport', 'tcp'), /401/)
  for (const pid of [
    ...(await processesMentioning(`:${service.ports.MEDIAMTX_RTSP_PORT}/cs/`)),
    Number(await readFile(join(service.dataDir, 'mediamtx.pid'), 'utf8'))
  ]) {
    t.notMatch(await readFile(`/proc/${pid}/environ`, 'utf8'), /SECRET|MTX_/)
  }
  client.close()
  await service.stop()
})

import { eventually } from '@marty/testing'
import t from 'tap'
import { ffprobe, startService } from '../running-service.js'
import { bindVivid, loadVivid, unbindVivid } from './vivid.js'

// Only for a machine that hangs: no test depends on speed.
t.setTimeout(900_000)

// The whole chain on the kernel's own cameras: V4L2, ffmpeg, MediaMTX, the service. The machine is emulated and slow;
// deadlines here only end what hangs.
const PATIENCE_MS = 240_000

t.test('two local cameras: stream, snapshot, recording; after replugging they keep their ids', async t => {
  await loadVivid({ n_devs: 2, node_types: '0x1,0x1', num_inputs: '1,1', input_types: '0,0' })
  const service = await startService({
    env: { CAMERA_SERVICE_CAMERAS_V4L2: 'true', CAMERA_SERVICE_SECURITY_JWT_EXPIRY_SECONDS: '3600' },
    startDeadlineMs: PATIENCE_MS
  })
  const client = await service.connect('admin')
  const list = async (): Promise<Array<{ device: string, name: string, status: string }>> => (await client.call('get_camera_list')).cameras

  const found = await list()
  t.match(found, [{ device: 'camera0', name: /vivid/, status: 'CONNECTED' }, { device: 'camera1', name: /vivid/, status: 'CONNECTED' }])
  t.equal(found.length, 2, 'no test pattern beside real cameras')
  const untilStatus = (device: string, expected: Record<string, string>): Promise<void> => eventually(async () => {
    const status = await client.call('get_camera_status', { device })
    if (Object.entries(expected).every(([name, value]) => status[name] === value)) return
    // The pause keeps the calls below their limit.
    await new Promise(resolve => setTimeout(resolve, 500))
    throw new Error(JSON.stringify(status))
  }, PATIENCE_MS)
  const untilReady = (device: string): Promise<void> => untilStatus(device, { stream_status: 'READY' })
  await untilReady('camera0')
  t.ok((await client.call('get_camera_status', { device: 'camera0' })).capabilities.formats.includes('YUYV'))

  const { streams } = await client.call('get_stream_url', { device: 'camera0' })
  const { streams: video } = await ffprobe(streams.rtsp, '-rtsp_transport', 'tcp')
  t.match(video, [{ codec_name: 'h264' }])

  const snapshot = await client.call('take_snapshot', { device: 'camera0' })
  t.match(snapshot, { status: 'SUCCESS', resolution: `${video[0]!.width}x${video[0]!.height}` })

  await client.call('start_recording', { device: 'camera0', duration: 3 })
  await eventually(async () => {
    if ((await client.call('get_camera_status', { device: 'camera0' })).recording === true) throw new Error('still recording')
  }, PATIENCE_MS)
  const { files } = await client.call('list_recordings', {})
  t.equal(files.length, 1)
  t.ok(files[0].duration > 1, `${files[0].duration} s recorded`)

  // Unplugged in the middle of a recording: reported immediately, and the recording goes on when the camera is back as
  // itself.
  await untilReady('camera0')
  await client.call('start_recording', { device: 'camera0' })
  const unplugged = performance.now()
  client.notifications.length = 0
  await unbindVivid()
  await eventually(() => {
    for (const device of ['camera0', 'camera1']) {
      if (
        !client.notifications.some(
          ({ method, params }) =>
            method === 'camera_status_update' && params['device'] === device && params['status'] === 'DISCONNECTED'
        )
      ) {
        throw new Error(`${device} is not said to be gone`)
      }
    }
  }, PATIENCE_MS)
  t.comment(`both cameras were said to be gone after ${Math.round(performance.now() - unplugged)} ms`)
  await untilStatus('camera0', { recording_status: 'WAITING_FOR_CAMERA' })

  await bindVivid()
  await untilReady('camera0')
  await untilReady('camera1')
  await untilStatus('camera0', { recording_status: 'RECORDING' })
  await client.call('stop_recording', { device: 'camera0' })
  t.ok((await client.call('list_recordings', {})).total >= 2, 'what was recorded before the gap is listed')
  t.strictSame(
    (await list()).map(({ device, name }) => ({ device, name })),
    found.map(({ device, name }) => ({ device, name }))
  )
  client.close()
  await service.stop()
})

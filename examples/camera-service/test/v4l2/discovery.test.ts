import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readdir } from 'node:fs/promises'
import t from 'tap'

import { chooseMode, ffmpegInputArgs } from '@marty/camera-service/cameras/discovery/v4l2/mode.js'
import { discoverV4l2 } from '@marty/camera-service/cameras/discovery/v4l2/v4l2.js'
import { watchV4l2 } from '@marty/camera-service/cameras/discovery/v4l2/watch.js'
import type { V4l2Camera } from '@marty/camera-service/cameras/discovery/v4l2/camera.js'

import { eventually } from './eventually.js'
import { bindVivid, loadVivid, unbindVivid, unloadVivid } from './vivid.js'

const webcams = { n_devs: 2, node_types: '0x1,0x1', num_inputs: '1,1', input_types: '0,0' }
const nobody = 65534

t.afterEach(unloadVivid)

t.test('a machine without cameras has none, and no problem', async t => {
  const { cameras, problems } = await discoverV4l2()
  t.same(cameras, [])
  t.same(problems, [])
})

t.test('only two of all the nodes of two devices are cameras', async t => {
  await loadVivid({ n_devs: 2 })
  const nodes = await readdir('/sys/class/video4linux')
  t.equal(nodes.filter(name => name.startsWith('video')).length, 8, 'the driver made output and metadata nodes too')
  t.ok(['radio0', 'swradio0', 'vbi0', 'v4l-touch0'].every(name => nodes.includes(name)), 'and nodes that are no ' +
    'video at all')

  const { cameras, problems } = await discoverV4l2()
  t.same(problems, [])
  t.same(cameras.map(({ node, name, driver, bus }) => ({ node, name, driver, bus })), [
    { node: '/dev/video0', name: 'vivid', driver: 'vivid', bus: 'platform:vivid-000' },
    { node: '/dev/video4', name: 'vivid', driver: 'vivid', bus: 'platform:vivid-001' }
  ])
  t.not(cameras[0]?.stableKey, cameras[1]?.stableKey)
  t.equal(cameras[0]?.formats.length, 83)
  t.match(sizeOf(cameras[0], 'YUYV', 640, 480)?.fps, [25, 15, 12.5, 10, 5, 4, 2, 1])
})

t.test('a camera that another program uses is found with all its modes', async t => {
  await loadVivid(webcams)
  const idle = await discoverV4l2()
  const streamer = spawn('v4l2-ctl', ['-d', '/dev/video0', '--stream-mmap'], { stdio: 'ignore' })
  const ended = once(streamer, 'exit')
  try {
    await eventually('the camera to be busy', secondStreamer, text => text.includes('Device or resource busy'))
    t.equal(JSON.stringify(await discoverV4l2()), JSON.stringify(idle))
  } finally {
    streamer.kill('SIGKILL')
    await ended
  }
})

t.test('a camera without permission is a problem with a remedy; the others are found', async t => {
  await loadVivid(webcams)
  await chmod('/dev/video0', 0o600)
  await chmod('/dev/video1', 0o666)
  process.seteuid?.(nobody)
  try {
    const { cameras, problems } = await discoverV4l2()
    t.same(cameras.map(({ node }) => node), ['/dev/video1'])
    t.match(problems, [{ node: '/dev/video0', reason: /^permission denied: .*"video"/ }])
    t.equal(problems.length, 1)
  } finally {
    process.seteuid?.(0)
  }
})

t.test('an unplugged camera disappears and returns under its key; the watch reports both', async t => {
  await loadVivid(webcams)
  const before = await discoverV4l2()
  let changes = 0
  const watch = watchV4l2(() => { changes += 1 })
  t.teardown(() => watch.close())

  await unbindVivid()
  await eventually('the watch to tell of the unplugging', () => changes > 0)
  t.same(await discoverV4l2(), { cameras: [], problems: [], sharedSerials: [] })

  const told = changes
  await bindVivid()
  await eventually('the watch to tell of the plugging in', () => changes > told)
  const after = await eventually('both cameras', discoverV4l2, ({ cameras }) => cameras.length === 2)
  t.equal(JSON.stringify(after), JSON.stringify(before))
})

t.test('the key stays the same when the node number changes', async t => {
  await loadVivid(webcams)
  const [first, second] = (await discoverV4l2()).cameras
  await unloadVivid()
  await loadVivid({ ...webcams, vid_cap_nr: '7,3' })
  const { cameras } = await discoverV4l2()
  t.same(cameras.map(({ node, stableKey }) => [node, stableKey]), [['/dev/video3', second?.stableKey], ['/dev/video7', first?.stableKey]])
})

t.test('ffmpeg reads the chosen mode at its size and rate', async t => {
  await loadVivid(webcams)
  const camera = (await discoverV4l2()).cameras[0] as V4l2Camera
  const mode = chooseMode(camera)
  t.match(mode, { width: 640, height: 480, fps: 25 })
  const { status, stderr } = ffmpeg([...ffmpegInputArgs(camera, mode), '-frames:v', '2', '-f', 'null', '-'])
  t.equal(status, 0)
  t.match(stderr, /Input #0.*640x480.* 25 fps/s)
  t.notMatch(stderr, /driver changed/i)
})

t.test('the pixel format names are those of ffmpeg', async t => {
  await loadVivid(webcams)
  const camera = (await discoverV4l2()).cameras[0] as V4l2Camera
  const { stderr } = ffmpeg(['-f', 'v4l2', '-list_formats', 'all', '-i', camera.node])
  const theirs = [...stderr.matchAll(/\] (?:Raw|Compressed)\s*:\s*(\S+)/g)].map(([, name]) => name)
  t.equal(theirs.length, camera.formats.length, 'both list the same formats, in the same order')
  const ours = camera.formats.map(({ pixelFormat }) => ffmpegName(camera, pixelFormat))
  t.same(ours.filter(name => name !== undefined).sort(), [
    'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8', 'bayer_rggb8', 'bgr24', 'gray', 'nv12', 'rgb24', 'uyvy422', 'yuv420p', 'yuv422p', 'yuyv422'
  ])
  t.same(ours.map((name, at) => name === undefined ? undefined : theirs[at]), ours)
})

t.test('a scaler\'s range of sizes becomes sizes to choose from', async t => {
  await loadVivid({ n_devs: 1, node_types: '0x1', num_inputs: 1, input_types: 3 })
  const [camera] = (await discoverV4l2()).cameras
  t.ok(sizeOf(camera, 'YUYV', 1280, 720))
  t.match(chooseMode(camera as V4l2Camera), { width: 1280, height: 720, fps: 30 })
})

t.test('a camera that only has multi-planar buffers is a problem, since ffmpeg cannot read it', async t => {
  await loadVivid({ n_devs: 1, node_types: '0x1', num_inputs: 1, input_types: 0, multiplanar: 2 })
  const { cameras, problems } = await discoverV4l2()
  t.same(cameras, [])
  t.match(problems, [{ node: '/dev/video0', reason: /multi-planar/ }])
})

function secondStreamer (): string {
  return spawnSync('v4l2-ctl', ['-d', '/dev/video0', '--stream-mmap', '--stream-count=1'], { encoding: 'utf8' }).stderr
}

function ffmpeg (args: readonly string[]) {
  return spawnSync('ffmpeg', ['-hide_banner', '-nostdin', ...args], { encoding: 'utf8' })
}

/** undefined when we offer no way to read the format. */
function ffmpegName (camera: V4l2Camera, pixelFormat: string): string | undefined {
  try {
    return ffmpegInputArgs(camera, { pixelFormat, width: 640, height: 480, fps: 25 })[3]
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

function sizeOf (camera: V4l2Camera | undefined, pixelFormat: string, width: number, height: number) {
  return camera?.formats
    .find(format => format.pixelFormat === pixelFormat)
    ?.sizes.find(size => size.width === width && size.height === height)
}

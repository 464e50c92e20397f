import { chmod, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { until } from '@marty/testing'
import t from 'tap'
import type { Test } from 'tap'

import { chooseMode, ffmpegInputArgs } from '@marty/camera-service/cameras/discovery/v4l2/mode.js'
import { discoverV4l2 } from '@marty/camera-service/cameras/discovery/v4l2/v4l2.js'
import { watchV4l2 } from '@marty/camera-service/cameras/discovery/v4l2/watch.js'
import type { V4l2Format } from '@marty/camera-service/cameras/discovery/v4l2/camera.js'

/** Answers of a real v4l2-ctl 1.22 about real drivers; long format lists are cut after the first formats. */
const recorded = fileURLToPath(new URL('../test/v4l2-discovery', import.meta.url))

const usbNode = (port: string, bus = 'usb-vhci_hcd.0-1') => ({
  device: `platform/vhci_hcd.0/usb1/${port}/${port}:1.0`, name: 'Test Cam: Test Cam', info: 'uvc-capture', formats: 'uvc-capture', bus
})

t.test('an invalid timeout is refused, and the error names the option', async t => {
  for (const timeoutMs of [0, -1, 1.5, NaN]) {
    await t.rejects(discoverV4l2({ timeoutMs }), /timeoutMs must be a positive integer/)
  }
})

t.test('a machine without Video4Linux has no cameras', async t => {
  t.same(await discoverV4l2({ sysfs: join(t.testdir(), 'none') }), { cameras: [], problems: [], sharedSerials: [] })
})

t.test('without v4l2-ctl every node is a problem, with the package to install', async t => {
  const machine = await makeMachine(t)
  await machine.addNode('video0', { device: 'platform/vivid.0', name: 'vivid-000-vid-cap', info: 'vivid-capture' })
  const { cameras, problems } = await discoverV4l2({ ...machine.options, v4l2ctl: join(machine.root, 'no-such-program') })
  t.same(cameras, [])
  t.match(problems, [{ node: join(machine.root, 'dev/video0'), reason: /not installed.*v4l-utils/ }])
})

t.test('a node without a device file, a hanging one and a flooding one are problems; the working one is found', async t => {
  const machine = await makeMachine(t)
  await machine.addNode('video0', { device: 'platform/a', name: 'a', deviceFile: false })
  await machine.addNode('video1', { device: 'platform/b', name: 'b', script: 'exec sleep 600' })
  await machine.addNode('video2', { device: 'platform/c', name: 'c', script: 'exec yes' })
  await machine.addNode('video3', { device: 'platform/d', name: 'd', script: 'echo "Cannot open device, exiting." >&2; exit 1' })
  await machine.addNode('video10', {
    device: 'platform/vivid.0',
    name: 'vivid-000-vid-cap',
    info: 'vivid-capture',
    formats: 'vivid-capture'
  })
  const { cameras, problems } = await discoverV4l2({ ...machine.options, timeoutMs: 4000 })
  t.same(cameras.map(({ node }) => node), [join(machine.root, 'dev/video10')])
  t.match(
    problems.map(({ reason }) => reason),
    [/device file is missing/, /longer than 4000 ms/, /printed more than/, /v4l2-ctl does not recognise it/]
  )
})

t.test('a node that disappears during its query is neither a camera nor a problem', async t => {
  const machine = await makeMachine(t)
  const entry = join(machine.root, 'sys/class/video4linux/video0')
  await machine.addNode('video0', { device: 'platform/a', name: 'a', script: `rm '${entry}'; exit 1` })
  t.same(await discoverV4l2(machine.options), { cameras: [], problems: [], sharedSerials: [] })
})

t.test('a camera that disappears or loses its node right after its query gets no wrong key', async t => {
  const machine = await makeMachine(t)
  const answered = `case "$1" in --info) cat '${recorded}/vivid-capture.info.txt' ;; *) cat ` +
    `'${recorded}/vivid-capture.formats.txt'; GONE ;; esac`
  const device = (name: string): string => join(machine.root, 'sys/devices/platform', name, 'video4linux')
  await machine.addNode('video0', { device: 'platform/a', name: 'a', script: answered.replace('GONE', `rm -r '${device('a')}'`) })
  await machine.addNode('video1', {
    device: 'platform/b',
    name: 'b',
    script: answered.replace(
      'GONE',
      `cp -r '${device('b')}/video1' '${device('b')}/next'; rm -r '${device('b')}/video1'; mv '${device('b')}/next' ` +
        `'${device('b')}/video1'`
    )
  })
  await machine.addNode('video2', { device: 'platform/c', name: 'c', script: answered.replace('GONE', `rm '${device('c')}/video2/name'`) })
  t.same(await discoverV4l2(machine.options), { cameras: [], problems: [], sharedSerials: [] })
})

t.test('a camera without formats, or without any that ffmpeg reads, is a problem', async t => {
  const machine = await makeMachine(t)
  await machine.addNode('video0', { device: 'platform/a', name: 'a', info: 'vivid-capture' })
  await machine.addNode('video1', {
    device: 'platform/b',
    name: 'b',
    info: 'vivid-capture-2',
    formatText: "\t[0]: 'Y16 -BE' (16-bit Greyscale BE)\n\t[1]: 'Y10 ' (10-bit)\n"
  })
  const { cameras, problems } = await discoverV4l2(machine.options)
  t.same(cameras, [])
  t.match(problems.map(({ reason }) => reason), [/lists no video formats/, /cannot read: Y16-BE, Y10$/])
})

t.test('output, metadata and touch nodes are not cameras, though their device captures video', async t => {
  const machine = await makeMachine(t)
  const device = 'platform/vivid.0'
  await machine.addNode('video0', { device, name: 'vivid-000-vid-cap', info: 'vivid-capture', formats: 'vivid-capture' })
  await machine.addNode('video1', { device, name: 'vivid-000-vid-out', index: '1', info: 'vivid-output' })
  await machine.addNode('video2', { device, name: 'vivid-000-meta-cap', index: '7', info: 'vivid-metadata' })
  await machine.addNode('video3', { device, name: 'vivid-000-touch-cap', index: '9', info: 'vivid-touch' })
  await machine.addNode('vbi0', { device, name: 'vivid-000-vbi-cap', index: '2', info: 'vivid-capture' })
  await machine.addNode('video4', { device, name: 'vivid-001-vid-cap', info: 'vivid-capture-2', formats: 'vivid-capture' })
  const { cameras, problems } = await discoverV4l2(machine.options)
  t.same(problems, [])
  t.match(cameras, [
    {
      node: join(machine.root, 'dev/video0'),
      name: 'vivid',
      driver: 'vivid',
      bus: 'platform:vivid-000',
      stableKey: 'bus/platform:vivid-000/-/vivid-000-vid-cap/0'
    },
    {
      node: join(machine.root, 'dev/video4'),
      name: 'vivid',
      driver: 'vivid',
      bus: 'platform:vivid-001',
      stableKey: 'bus/platform:vivid-001/-/vivid-001-vid-cap/0'
    }
  ])
  t.equal(cameras.length, 2)
  t.match(cameras[0]?.formats, [{ pixelFormat: 'YUYV' }])
  t.same(cameras[0]?.formats[0]?.sizes.map(({ width, height, fps }) => [width, height, fps[0]]),
    [[320, 180, 60], [640, 360, 40], [640, 480, 25], [1280, 720, 12.5], [1920, 1080, 5], [3840, 2160, 2]])
})

t.test('a USB camera is identified by its serial number at every port and node number', async t => {
  const machine = await makeMachine(t)
  await machine.addUsb('1-1', { serial: 'SER0001' })
  await machine.addNode('video0', usbNode('1-1'))
  await machine.addNode('video1', { ...usbNode('1-1'), index: '1', info: 'uvc-metadata' })
  const before = await discoverV4l2(machine.options)
  t.match(before.cameras, [{ name: 'Test Cam: Test Cam', driver: 'uvcvideo', stableKey: 'usb/1d6b:0102/SER0001/00/0' }])
  t.equal(before.cameras.length, 1)

  await machine.removeNode('video0')
  await machine.removeNode('video1')
  await machine.addUsb('1-3', { serial: 'SER0001' })
  await machine.addNode('video7', usbNode('1-3', 'usb-vhci_hcd.0-3'))
  const after = await discoverV4l2(machine.options)
  t.equal(after.cameras[0]?.stableKey, before.cameras[0]?.stableKey)
  t.not(after.cameras[0]?.node, before.cameras[0]?.node)
})

t.test('two cameras with one serial number have their own keys, and keep them when one is unplugged', async t => {
  const machine = await makeMachine(t)
  for (const [node, port] of [['video0', '1-1'], ['video2', '1-2']] as const) {
    await machine.addUsb(port, { serial: 'SAME' })
    await machine.addNode(node, usbNode(port, `usb-vhci_hcd.0-${port.slice(2)}`))
  }
  const both = await discoverV4l2(machine.options)
  t.equal(both.cameras.length, 2)
  t.not(both.cameras[0]?.stableKey, both.cameras[1]?.stableKey)

  await machine.removeNode('video0')
  const one = await discoverV4l2({ ...machine.options, sharedSerials: both.sharedSerials })
  t.same(one.cameras.map(({ stableKey }) => stableKey), [both.cameras[1]?.stableKey])
})

t.test('without a usable serial number, the port and the card identify a camera', async t => {
  const machine = await makeMachine(t)
  const serials = [undefined, '0000000000', 'SN0001', '200901010001']
  for (const [at, serial] of serials.entries()) {
    await machine.addUsb(`1-${at}`, serial === undefined ? {} : { serial })
    await machine.addNode(`video${at}`, usbNode(`1-${at}`, `usb-vhci_hcd.0-${at}`))
  }
  const { cameras } = await discoverV4l2(machine.options)
  t.same(cameras.map(({ stableKey }) => stableKey), serials.map((_, at) => `bus/usb-vhci_hcd.0-${at}/00/Test%20Cam:%20Test%20Cam/0`))
})

t.test('the range of a scaler becomes common sizes', async t => {
  const machine = await makeMachine(t)
  await machine.addNode('video0', { device: 'platform/vivid.0', name: 'vivid-000-vid-cap', info: 'vivid-capture', formats: 'vivid-hdmi' })
  const [camera] = (await discoverV4l2(machine.options)).cameras
  t.match(
    camera?.formats[0]?.sizes.map(({ width, height }) => `${width}x${height}`),
    ['16x16', '320x240', '640x360', '640x480', '800x600', '1280x720', '1920x1080', '3840x2160', '16384x8640']
  )
})

t.test('the choice of a mode', async t => {
  const choose = (formats: readonly V4l2Format[], wish?: Parameters<typeof chooseMode>[1]) =>
    chooseMode({ node: '/dev/video0', formats }, wish)
  const yuyv = {
    pixelFormat: 'YUYV',
    sizes: [
      { width: 640, height: 480, fps: [30, 15, 5] },
      { width: 1280, height: 720, fps: [10, 5] },
      { width: 1920, height: 1080, fps: [5] }
    ]
  }
  const mjpg = {
    pixelFormat: 'MJPG',
    sizes: [
      { width: 640, height: 480, fps: [60, 30] },
      { width: 1280, height: 720, fps: [60, 30, 15] },
      { width: 1920, height: 1080, fps: [30] }
    ]
  }

  t.throws(() => choose([{ pixelFormat: 'HSV3', sizes: [] }]), RangeError)
  t.throws(() => ffmpegInputArgs({ node: '/dev/video0' }, { pixelFormat: 'HSV3', width: 1, height: 1, fps: 1 }), /HSV3/)
  t.same(choose([yuyv]), { pixelFormat: 'YUYV', width: 640, height: 480, fps: 30 }, 'smooth and smaller rather than ' +
    'jerky and larger')
  t.same(choose([yuyv, mjpg]), { pixelFormat: 'MJPG', width: 1280, height: 720, fps: 30 }, 'compressed where raw is too slow')
  t.same(choose([mjpg, yuyv], { width: 640, height: 480 }), { pixelFormat: 'YUYV', width: 640, height: 480, fps: 30 }, 'raw where both can')
  t.same(choose([yuyv, mjpg], { width: 1920, height: 1080 }), { pixelFormat: 'MJPG', width: 1920, height: 1080, fps: 30 })
  t.same(choose([yuyv], { fps: 5 }), { pixelFormat: 'YUYV', width: 1280, height: 720, fps: 5 }, 'a slow wish counts as smooth')
  t.same(
    choose([
      {
        pixelFormat: 'MJPG',
        sizes: [
          { width: 3840, height: 2160, fps: [30] },
          { width: 1920, height: 1080, fps: [30] }
        ]
      }
    ]),
    { pixelFormat: 'MJPG', width: 1920, height: 1080, fps: 30 },
    'nothing fits'
  )
  t.same(
    choose([{ pixelFormat: 'GREY', sizes: [{ width: 320, height: 240, fps: [2] }] }]),
    { pixelFormat: 'GREY', width: 320, height: 240, fps: 2 },
    'nothing is smooth'
  )
  t.same(choose([{ pixelFormat: 'YUYV', sizes: [] }]), { pixelFormat: 'YUYV', width: 640, height: 480, fps: 30 }, 'the driver does not say')
  t.same(ffmpegInputArgs({ node: '/dev/video0' }, choose([yuyv])),
    ['-f', 'v4l2', '-input_format', 'yuyv422', '-framerate', '30', '-video_size', '640x480', '-i', '/dev/video0'])
})

t.test('the watch reports only video nodes, and nothing after it is closed', async t => {
  const dev = t.testdir()
  let told = 0
  const watch = watchV4l2(() => { told += 1 }, { dev, settleMs: 10 })
  await writeFile(join(dev, 'ttyS0'), '')
  await writeFile(join(dev, 'video0'), '')
  await until(() => told > 0)
  const before = told
  await rm(join(dev, 'video0'))
  await until(() => told > before)
  watch.close()

  const after = told
  const other = watchV4l2(() => { told += 100 }, { dev, settleMs: 10 })
  t.teardown(() => other.close())
  await writeFile(join(dev, 'video1'), '')
  await until(() => told >= after + 100)
  t.equal(told % 100, after % 100, 'only the open watch was told')
})

t.test('a watch on a folder that does not exist yet checks repeatedly', async t => {
  const dev = join(t.testdir(), 'dev')
  let told = 0
  const watch = watchV4l2(() => { told += 1 }, { dev, settleMs: 1, pollMs: 10 })
  t.teardown(() => watch.close())
  // Made at once with its nodes: the first look may come before or after.
  const made = `${dev}-made`
  await mkdir(made)
  await writeFile(join(made, 'video0'), '')
  await rename(made, dev)
  await writeFile(join(dev, 'video1'), '')
  await until(() => told > 0)
  const before = told
  await rm(join(dev, 'video0'))
  await until(() => told > before)
  t.ok(told > before)
})

interface FakeNode {
  readonly device: string
  readonly name: string
  readonly index?: string
  /** Names of recorded answers. */
  readonly info?: string
  readonly formats?: string
  readonly formatText?: string
  /** Replaces the recorded bus. */
  readonly bus?: string
  readonly deviceFile?: boolean
  /** What v4l2-ctl does instead of answering. */
  readonly script?: string
}

/** A sysfs tree, device files and a v4l2-ctl that plays back recorded answers. */
async function makeMachine (t: Test) {
  const root = await mkdtemp(join(tmpdir(), 'v4l2-discovery-'))
  t.teardown(() => rm(root, { recursive: true, force: true }))
  const devices = join(root, 'sys/devices')
  const classFolder = join(root, 'sys/class/video4linux')
  for (const folder of [devices, classFolder, join(root, 'dev'), join(root, 'answers')]) await mkdir(folder, { recursive: true })
  const v4l2ctl = join(root, 'v4l2-ctl')
  await writeFile(v4l2ctl, `#!/bin/sh\nexec /bin/sh "${root}/answers/$(basename "$2")" "$3"\n`)
  await chmod(v4l2ctl, 0o755)

  return {
    root,
    options: { sysfs: join(root, 'sys'), dev: join(root, 'dev'), v4l2ctl },

    async addUsb (port: string, { serial }: { readonly serial?: string }) {
      const device = join(devices, 'platform/vhci_hcd.0/usb1', port)
      const attributes = {
        idVendor: '1d6b',
        idProduct: '0102',
        [`${port}:1.0/bInterfaceNumber`]: '00',
        ...(serial === undefined ? {} : { serial })
      }
      for (const [name, value] of Object.entries(attributes)) await writeAttribute(join(device, name), value)
    },

    async addNode (node: string, { device, name, index = '0', info, formats, formatText = '', bus, deviceFile = true, script }: FakeNode) {
      const entry = join(devices, device, 'video4linux', node)
      await writeAttribute(join(entry, 'name'), name)
      await writeAttribute(join(entry, 'index'), index)
      await symlink(join(devices, device), join(entry, 'device'))
      await symlink(entry, join(classFolder, node))
      if (deviceFile) await writeFile(join(root, 'dev', node), '')
      const replaceBus = bus === undefined ? '' : ` | sed 's/Bus info .*/Bus info         : ${bus}/'`
      await writeFile(join(root, 'answers', node), script ?? [
        'case "$1" in',
        `--info) ${info === undefined ? 'exit 1' : `cat '${recorded}/${info}.info.txt'${replaceBus}`} ;;`,
        `*) ${formats === undefined ? `printf '%s' "${formatText}"` : `cat '${recorded}/${formats}.formats.txt'`} ;;`,
        'esac'
      ].join('\n'))
    },

    async removeNode (node: string) {
      await rm(join(classFolder, node))
      await rm(join(root, 'dev', node))
    }
  }
}

async function writeAttribute (path: string, value: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, `${value}\n`)
}

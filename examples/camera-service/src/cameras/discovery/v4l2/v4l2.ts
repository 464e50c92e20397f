import { constants } from 'node:fs'
import { open, readFile, readdir, realpath, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { V4l2Camera } from './camera.js'
import { assignKeys, describeIdentity, type UsbInterface, type V4l2Identity } from './identity.js'
import { isReadable } from './mode.js'
import { isCapture, isMultiplanarOnly, parseFormats, parseInfo, queryNode } from './v4l2-ctl.js'

/** A node that may be a camera but could not be queried, with the reason and the remedy. */
export interface V4l2Problem {
  /** Device file, for example `/dev/video0`. */
  readonly node: string
  readonly reason: string
}

export interface V4l2Discovery {
  /** Sorted by node number. */
  readonly cameras: readonly V4l2Camera[]
  readonly problems: readonly V4l2Problem[]
  /**
   * Serial identities that more than one camera has had so far. Pass them to the next call, see
   * {@link V4l2DiscoveryOptions.sharedSerials}.
   */
  readonly sharedSerials: readonly string[]
}

export interface V4l2DiscoveryOptions {
  /** Where sysfs is mounted. @default '/sys' */
  readonly sysfs?: string
  /** The folder of device files. @default '/dev' */
  readonly dev?: string
  /** The program that queries the driver. @default 'v4l2-ctl', found on PATH */
  readonly v4l2ctl?: string
  /** Timeout of one query to one node, in milliseconds. @default 5000 */
  readonly timeoutMs?: number
  /**
   * `sharedSerials` of an earlier result. Some cheap cameras all have the same serial number. Such a number never
   * identifies a camera again, so that unplugging one of the two does not change the other's key. @default []
   */
  readonly sharedSerials?: readonly string[]
}

/**
 * Finds the cameras of this machine: V4L2 nodes whose own capabilities include video capture.
 * Output, metadata, radio, VBI and touch nodes of the same device are left out.
 *
 * It only makes queries, which a driver answers even while another program is streaming. A node that cannot be queried
 * is reported as a problem; the promise rejects only for invalid options. Without Video4Linux the result is empty.
 * @throws RangeError when `timeoutMs` is not a positive integer
 */
export async function discoverV4l2 (options: V4l2DiscoveryOptions = {}): Promise<V4l2Discovery> {
  const { sysfs = '/sys', dev = '/dev', v4l2ctl = 'v4l2-ctl', timeoutMs = 5000, sharedSerials = [] } = options
  if (!Number.isSafeInteger(timeoutMs) || timeoutMs < 1) {
    throw new RangeError(`timeoutMs must be a positive integer number of milliseconds, not ${timeoutMs}`)
  }

  const classFolder = join(sysfs, 'class/video4linux')
  const names = await listVideoNodes(classFolder)
  const results = await inParallel(names, 4, async name => {
    const entry = join(classFolder, name)
    const before = await inode(entry)
    const result = await inspect(entry, sysfs, join(dev, name), v4l2ctl, timeoutMs)
    // If the camera was unplugged during the query, or its number was reassigned, the data may be incomplete or mixed
    // from two devices.
    return before !== undefined && await inode(entry) === before ? result : undefined
  })

  const found = results.filter(result => result !== undefined && 'camera' in result)
  const assigned = assignKeys(found.map(({ identity }) => identity), sharedSerials)
  return {
    cameras: found.map(({ camera }, at) => ({ stableKey: assigned.keys[at] as string, ...camera })),
    problems: results.filter(result => result !== undefined && 'reason' in result),
    sharedSerials: assigned.sharedSerials
  }
}

type Inspection =
  V4l2Problem | NotACamera | { readonly camera: Omit<V4l2Camera, 'stableKey'>, readonly identity: V4l2Identity }
interface NotACamera { readonly notACamera: true }

async function listVideoNodes (classFolder: string): Promise<string[]> {
  const entries = await readdir(classFolder).catch(() => [])
  // The other names in this class are radio, swradio, vbi, v4l-touch and v4l-subdev.
  const numbers = entries.flatMap(name => /^video(\d+)$/.exec(name)?.[1] ?? []).map(Number)
  return numbers.sort((a, b) => a - b).map(number => `video${number}`)
}

async function inspect (
  entry: string, sysfs: string, node: string, v4l2ctl: string, timeoutMs: number
): Promise<Inspection> {
  const info = await queryNode(v4l2ctl, node, '--info', timeoutMs)
  const card = parseInfo(info.output)
  if (card === undefined) return { node, reason: info.failure ?? await whyUnreadable(node, timeoutMs) }
  if (!isCapture(card.capabilities)) return { notACamera: true }
  if (isMultiplanarOnly(card.capabilities)) {
    return { node, reason: `"${card.name}" offers only multi-planar buffers, which ffmpeg cannot read` }
  }

  const listing = await queryNode(v4l2ctl, node, '--list-formats-ext', timeoutMs)
  if (listing.failure !== undefined) return { node, reason: listing.failure }
  const formats = parseFormats(listing.output)
  if (formats.length === 0) {
    return {
      node,
      reason: `"${card.name}" lists no video formats: connect a signal to a capture card, or set up the media ` +
        'pipeline of a sensor'
    }
  }
  if (!formats.some(({ pixelFormat }) => isReadable(pixelFormat))) {
    return {
      node,
      reason: `"${card.name}" offers only pixel formats that ffmpeg cannot read: ` +
        `${formats.map(({ pixelFormat }) => pixelFormat).join(', ')}`
    }
  }

  const name = await readAttribute(entry, 'name')
  const index = await readAttribute(entry, 'index')
  // The kernel gives every node both attributes. A node without them is being created or removed, which the watch
  // reports.
  if (name === undefined || index === undefined) return { notACamera: true }
  const device = await realpath(join(entry, 'device')).catch(() => undefined)
  const identity = describeIdentity({
    bus: card.bus,
    function: name || card.name,
    index,
    usb: device === undefined ? undefined : await findUsbInterface(device, await realpath(sysfs))
  })
  return { camera: { node, name: card.name, driver: card.driver, bus: card.bus, formats }, identity }
}

/** Finds the USB interface that the camera's driver is bound to. The USB device is an ancestor of it. */
async function findUsbInterface (device: string, sysfs: string): Promise<UsbInterface | undefined> {
  const number = await readAttribute(device, 'bInterfaceNumber')
  for (let folder = device; folder.startsWith(sysfs) && folder !== sysfs; folder = dirname(folder)) {
    const vendor = await readAttribute(folder, 'idVendor')
    const product = await readAttribute(folder, 'idProduct')
    if (vendor !== undefined && product !== undefined) {
      return { vendor, product, serial: await readAttribute(folder, 'serial'), number: number ?? '00' }
    }
  }
}

/**
 * Tries to open the node, because the kernel's error is exact. v4l2-ctl says little about a node that it cannot open,
 * and its messages differ between versions.
 */
async function whyUnreadable (node: string, timeoutMs: number): Promise<string> {
  const opening = open(node, constants.O_RDWR | constants.O_NONBLOCK).then(
    async file => { await file.close(); return 'opened' },
    (error: Error & { code?: string }) => error.code ?? error.message
  )
  let timer: ReturnType<typeof setTimeout> | undefined
  const outcome = await Promise.race([
    opening,
    new Promise<string>(resolve => {
      timer = setTimeout(resolve, timeoutMs, 'ETIMEDOUT')
    })
  ])
  clearTimeout(timer)
  switch (outcome) {
    case 'EACCES':
    case 'EPERM':
      return 'permission denied: add the user of this service to the group that owns the node (usually "video"), or ' +
        'allow the device in its container'
    case 'EBUSY':
      return 'busy: another program has opened it, and its driver allows only one at a time'
    case 'ENOENT':
      return 'the kernel has this camera, but its device file is missing: in a container, pass the device into it'
    case 'ENODEV':
    case 'ENXIO':
      return 'the device no longer responds: unplug it and plug it in again'
    case 'ETIMEDOUT':
      return `opening it took longer than ${timeoutMs} ms`
    case 'opened':
      return 'it can be opened, but v4l2-ctl does not recognise it: check that it is a V4L2 node'
    default:
      return `cannot be opened (${outcome})`
  }
}

/** Returns undefined when the attribute is missing. */
async function readAttribute (folder: string, name: string): Promise<string | undefined> {
  return await readFile(join(folder, name), 'utf8').then(text => text.trim(), () => undefined)
}

/** Distinguishes a device from a later one with the same name; undefined when the device does not exist. */
async function inode (path: string): Promise<number | undefined> {
  return await stat(path).then(({ ino }) => ino, () => undefined)
}

async function inParallel<Item, Result> (
  items: readonly Item[],
  limit: number,
  work: (item: Item) => Promise<Result>
): Promise<Result[]> {
  const results: Result[] = []
  const queue = items.entries()
  const takeTurns = async (): Promise<void> => {
    for (const [at, item] of queue) results[at] = await work(item)
  }
  await Promise.all(Array.from({ length: limit }, takeTurns))
  return results
}

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * Loads the kernel's test cameras; their device files exist when it returns.
 *
 * Without parameters one device has capture, output and metadata nodes besides radio, VBI and touch.
 * `{ n_devs: 2, node_types: '0x1,0x1', num_inputs: '1,1', input_types: '0,0' }` gives exactly two webcams.
 */
export async function loadVivid (parameters: Readonly<Record<string, string | number>> = {}): Promise<void> {
  assertInVm()
  await run('modprobe', ['vivid', ...Object.entries(parameters).map(([name, value]) => `${name}=${value}`)])
}

/** Takes all test cameras away. Fails while one is open. */
export async function unloadVivid (): Promise<void> {
  assertInVm()
  if (existsSync('/sys/module/vivid')) await run('modprobe', ['-r', 'vivid'])
}

/**
 * Unplugs: all cameras of one vivid platform device vanish, also under a program that streams. vivid has one such
 * device, 0.
 */
export async function unbindVivid (device = 0): Promise<void> {
  assertInVm()
  await writeFile('/sys/bus/platform/drivers/vivid/unbind', `vivid.${device}`)
}

/** Plugs in again what {@link unbindVivid} took away. */
export async function bindVivid (device = 0): Promise<void> {
  assertInVm()
  await writeFile('/sys/bus/platform/drivers/vivid/bind', `vivid.${device}`)
}

/** Sets a control, for example `disconnect` or `inject_vidioc_streamon_error` to 1: the faults a real camera has. */
export async function setVividControl (node: string, control: string, value: number): Promise<void> {
  assertInVm()
  await run('v4l2-ctl', ['-d', node, '--set-ctrl', `${control}=${value}`])
}

/** These load kernel modules: nothing to do on anybody's own machine. */
function assertInVm (): void {
  if (process.env['V4L2_VM'] !== '1') throw new Error('this runs only in the virtual machine of "npm run test:v4l2"')
}

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { prepareKernel } from './kernel.mjs'
import { findPrograms } from './requirements.mjs'

/** The repository's root: the guest sees it at the same absolute path. */
export const checkout = fileURLToPath(new URL('../../../..', import.meta.url)).replace(/\/$/, '')
const cache = join(checkout, '.cache/v4l2-vm')

/**
 * Checks the machine and makes sure that kernel and initramfs are in the cache.
 * @param {{ say?: (line: string) => void }} [options]
 * @returns {Promise<object>} what runInVm() boots
 */
export async function prepareVm ({ say = () => {} } = {}) {
  const programs = findPrograms()
  const kernel = await prepareKernel(cache, programs, say)
  return { ...kernel, programs }
}

/**
 * Boots the guest, runs one shell script in it as root and waits until it has powered off.
 *
 * The guest sees the host's whole disk at the same paths: readable as far as this user may read it, and writable
 * into memory only (nothing written there survives). `/tmp` and `/run` are empty. There is no network but loopback.
 * @param {object} vm from prepareVm()
 * @param {object} options
 * @param {string} options.script POSIX shell
 * @param {number} options.deadlineMs the guest is killed after this time
 * @param {(chunk: string) => void} [options.onOutput] the script's stdout and stderr, as it comes
 * @param {Record<string, string>} [options.environment] variables for the script
 * @param {string[]} [options.keep] folders or files under /tmp or /run that must stay visible (the checkout always
 * does)
 * @param {number} [options.memoryMiB] @default 1536
 * @param {AbortSignal} [options.signal] kills the guest
 * @returns {Promise<{ exitStatus: number | undefined, ended: 'powered off' | 'deadline' | 'aborted', consoleLog:
 * string, durationMs: number }>}
 *   `exitStatus` is undefined when the guest left none: it crashed or was killed. `consoleLog` names the kernel's
 * console output.
 */
export async function runInVm (vm, options) {
  const started = performance.now()
  const share = await mkdtemp(join(cache, 'share-'))
  const consoleLog = join(cache, 'console.log')
  try {
    await fillShare(share, vm, options)
    const ended = await boot(vm, share, consoleLog, options)
    const status = await readFile(join(share, 'exit-status'), 'utf8').catch(() => '')
    return {
      exitStatus: ended === 'powered off' && /^\d+\n$/.test(status) ? Number(status) : undefined,
      ended,
      consoleLog,
      durationMs: performance.now() - started
    }
  } finally {
    await rm(share, { recursive: true, force: true })
  }
}

/** One word for the shell, whatever is in it. */
export function shellQuote (word) {
  return `'${word.replaceAll("'", "'\\''")}'`
}

async function fillShare (share, vm, { script, environment = {}, keep = [] }) {
  await mkdir(share, { recursive: true })
  await copyFile(vm.programs.busybox, join(share, 'busybox'))
  await copyFile(fileURLToPath(new URL('guest.sh', import.meta.url)), join(share, 'guest.sh'))
  await writeFile(join(share, 'task.sh'), script)
  const variables = { HOME: '/root', LANG: 'C.UTF-8', ...environment, V4L2_VM: '1', V4L2_VM_MODULES: vm.modules }
  await writeFile(
    join(share, 'environment.sh'),
    Object.entries(variables)
      .map(([name, value]) => `export ${name}=${shellQuote(value)}\n`)
      .join('')
  )
  const paths = new Set()
  for (const path of [checkout, ...keep]) {
    if (!existsSync(path)) throw new Error(`cannot keep ${path} visible in the guest: it does not exist`)
    for (const name of [path, await realpath(path)]) if (/^\/(tmp|run)\//.test(name)) paths.add(name)
  }
  await writeFile(join(share, 'keep'), [...paths].map(path => `${path}\n`).join(''))
}

function boot (vm, share, consoleLog, { deadlineMs, onOutput = () => {}, memoryMiB = 1536, signal }) {
  const nineP = (path, tag, more) => [
    '-virtfs',
    `local,path=${path.replaceAll(',', ',,')},mount_tag=${tag},security_model=none,multidevs=remap${more}`
  ]
  const qemu = spawn(vm.programs['qemu-system-x86_64'], [
    // Software emulation on purpose: the same everywhere, and hosted CI machines offer nothing else.
    '-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', String(memoryMiB),
    '-display', 'none', '-nodefaults', '-no-user-config', '-no-reboot', '-nic', 'none',
    '-serial', `file:${consoleLog.replaceAll(',', ',,')}`, '-serial', 'stdio',
    '-kernel', vm.image, '-initrd', vm.initramfs,
    '-append', 'console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off nokaslr random.trust_cpu=on tsc=unstable',
    ...nineP('/', 'hostroot', ',readonly=on'),
    ...nineP(share, 'share', '')
  ], { stdio: ['ignore', 'pipe', 'pipe'] })

  return new Promise((resolve, reject) => {
    let ended = 'powered off'
    let complaint = ''
    const kill = reason => {
      ended = reason
      qemu.kill('SIGKILL')
    }
    const timer = setTimeout(kill, deadlineMs, 'deadline')
    const abort = () => kill('aborted')
    signal?.addEventListener('abort', abort, { once: true })
    qemu.stdout.setEncoding('utf8').on('data', onOutput)
    qemu.stderr.setEncoding('utf8').on('data', text => { complaint = (complaint + text).slice(-4096) })
    const settle = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', abort)
    }
    qemu.on('error', error => {
      settle()
      reject(error)
    })
    qemu.on('close', code => {
      settle()
      if (code !== 0 && ended === 'powered off') reject(new Error(`qemu ended with ${code}: ${complaint.trim()}`))
      else resolve(ended)
    })
    if (signal?.aborted) abort()
  })
}

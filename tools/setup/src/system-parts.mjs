import { existsSync } from 'node:fs'
import process from 'node:process'
import { findOnPath, run } from './command.mjs'
import { isStaticBinary } from './elf.mjs'
import { SetupError } from './errors.mjs'

/**
 * @typedef {'start' | 'test' | 'v4l2'} Purpose
 * @typedef {object} Part
 * @property {string} name the Debian package
 * @property {string} [brew] the Homebrew formula
 * @property {readonly (readonly string[])[]} commands groups of alternative names: one program of each group must exist
 * @property {readonly Purpose[]} for
 * @property {boolean} [linuxOnly] whether only Linux needs it
 * @property {(file: string) => boolean} [accepts] an additional condition for the program that is found
 * @typedef {object} Machine
 * @property {string} platform as in `process.platform`
 * @property {boolean} debian whether the system is Debian or based on it, such as Ubuntu
 * @property {boolean} root whether setup may install packages
 */

// The PATH of an ordinary user does not contain the folders of administration commands.
const ADMIN_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin']
const APT_OPTIONS = ['-o', 'DPkg::Lock::Timeout=120']

/** @type {readonly Part[]} */
const PARTS = [
  { name: 'ffmpeg', brew: 'ffmpeg', commands: [['ffmpeg'], ['ffprobe']], for: ['start', 'test', 'v4l2'] },
  { name: 'v4l-utils', commands: [['v4l2-ctl']], for: ['start', 'test', 'v4l2'], linuxOnly: true },
  { name: 'redis-server', brew: 'redis', commands: [['redis-server']], for: ['test'] },
  { name: 'chromium', commands: [['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable']], for: ['test'] },
  { name: 'qemu-system-x86', commands: [['qemu-system-x86_64']], for: ['v4l2'] },
  { name: 'cpio', commands: [['cpio']], for: ['v4l2'] },
  // The virtual machine starts with only this program, so the program must not need a shared library.
  { name: 'busybox-static', commands: [['busybox']], for: ['v4l2'], accepts: isStaticBinary },
  { name: 'kmod', commands: [['modprobe'], ['depmod']], for: ['v4l2'] }
]

/**
 * Finds the programs that a purpose needs. As root on Debian or Ubuntu, installs the missing ones.
 *
 * @param {{ purpose: Purpose, env?: NodeJS.ProcessEnv, machine?: Machine, say?: (text: string) => void }} options
 * @returns {Promise<{ present: string[], installed: string[] }>} package names
 * @throws {SetupError} MARTY_SETUP_PARTS_MISSING with the exact command as remedy, MARTY_SETUP_APT_FAILED with apt's
 * output
 */
export async function provideSystemParts ({ purpose, env = process.env, machine = describeMachine(), say = () => {} }) {
  if (purpose === 'v4l2' && machine.platform !== 'linux') {
    throw new SetupError('MARTY_SETUP_PARTS_MISSING', 'The V4L2 cameras of the virtual machine need Linux.', {
      remedy: 'Run this on Linux.'
    })
  }
  const wanted = PARTS.filter((part) => part.for.includes(purpose) && (machine.platform === 'linux' || part.linuxOnly !== true))
  const missing = wanted.filter((part) => lackingCommands(part, env).length > 0)
  const present = wanted.filter((part) => !missing.includes(part)).map((part) => part.name)
  if (missing.length === 0) return { present, installed: [] }
  if (!machine.debian || !machine.root) throw missingParts(missing, env, machine)

  const installed = missing.map((part) => part.name)
  await installWithApt(installed, env, say)
  const still = wanted.filter((part) => lackingCommands(part, env).length > 0)
  if (still.length > 0) throw missingParts(still, env, machine)
  return { present, installed }
}

/** @returns {Machine} */
export function describeMachine () {
  return {
    platform: process.platform,
    debian: existsSync('/etc/debian_version'),
    root: process.getuid?.() === 0
  }
}

/**
 * @param {readonly string[]} packages
 * @param {NodeJS.ProcessEnv} env
 * @param {(text: string) => void} say
 */
async function installWithApt (packages, env, say) {
  const aptEnv = { ...env, DEBIAN_FRONTEND: 'noninteractive' }
  const onLine = (/** @type {string} */ line) => { if (line.trim() !== '') say(`apt-get: ${line.trim().slice(0, 60)}`) }
  say('apt-get update')
  // `update` fails if even one source is unreachable, but the existing package lists may be sufficient. So only the
  // result of `install` counts.
  const update = await run('apt-get', [...APT_OPTIONS, 'update'], { env: aptEnv, onLine })
  say(`apt-get install ${packages.join(' ')}`)
  const install = await run('apt-get', [...APT_OPTIONS, 'install', '-y', '--no-install-recommends', ...packages], { env: aptEnv, onLine })
  if (install.code === 0) return
  throw new SetupError('MARTY_SETUP_APT_FAILED', `apt-get could not install ${packages.join(', ')}.`, {
    output: (update.code === 0 ? '' : update.output) + install.output,
    remedy: aptCommand(packages, '')
  })
}

/**
 * @param {readonly Part[]} missing
 * @param {NodeJS.ProcessEnv} env
 * @param {Machine} machine
 */
function missingParts (missing, env, machine) {
  const list = missing.map((part) => `${part.name} (${lackingCommands(part, env).join(', ')})`)
  return new SetupError('MARTY_SETUP_PARTS_MISSING', `Missing: ${list.join('; ')}.`, { remedy: installCommand(missing, machine) })
}

/**
 * @param {readonly Part[]} missing
 * @param {Machine} machine
 */
function installCommand (missing, machine) {
  const names = missing.map((part) => part.name)
  if (machine.debian) return aptCommand(names, machine.root ? '' : 'sudo ')
  if (machine.platform === 'darwin' && missing.every((part) => part.brew !== undefined)) {
    return missing.map((part) => `brew install ${part.brew}`).join(' && ')
  }
  return `Install these with the package manager of this system, which may use other names: ${names.join(' ')}`
}

/**
 * @param {readonly string[]} packages
 * @param {string} prefix
 */
function aptCommand (packages, prefix) {
  return `${prefix}apt-get update && ${prefix}apt-get install -y --no-install-recommends ${packages.join(' ')}`
}

/**
 * @param {Part} part
 * @param {NodeJS.ProcessEnv} env
 * @returns {string[]} the missing programs, each by the first name of its group
 */
function lackingCommands (part, env) {
  return part.commands.filter((names) => {
    const found = names.map((name) => findOnPath(name, env, ADMIN_FOLDERS)).find((file) => file !== undefined)
    return found === undefined || part.accepts?.(found) === false
  }).map((names) => names[0] ?? part.name)
}

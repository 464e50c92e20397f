import { accessSync, constants, openSync, readSync, closeSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Debian package that brings each program the harness (or its guest, which sees the host's disk) needs. */
const programs = {
  'qemu-system-x86_64': 'qemu-system-x86',
  cpio: 'cpio',
  busybox: 'busybox-static',
  depmod: 'kmod',
  modprobe: 'kmod',
  'apt-get': 'apt',
  'dpkg-deb': 'dpkg',
  'v4l2-ctl': 'v4l-utils',
  ffmpeg: 'ffmpeg'
}

/**
 * Finds every program, or throws one error that lists all that is missing with the command that installs it.
 * @returns {Record<string, string>} program name to absolute path
 */
export function findPrograms () {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(
      'the V4L2 tests boot an amd64 Linux kernel over this machine\'s own programs: they need Linux on x64, this is ' +
        `${process.platform} on ${process.arch}`
    )
  }
  const found = {}
  const missing = new Set()
  for (const [program, debianPackage] of Object.entries(programs)) {
    const path = findOnPath(program)
    if (path === undefined) missing.add(debianPackage)
    else found[program] = path
  }
  if (found.busybox !== undefined && !isStatic(found.busybox)) missing.add('busybox-static')
  if (missing.size > 0) {
    const asRoot = process.getuid() === 0 ? '' : 'sudo '
    throw new Error(
      `missing on this machine; install with:\n  ${asRoot}apt-get install -y --no-install-recommends ` +
        `${[...missing].join(' ')}`
    )
  }
  return found
}

/** PATH with the system folders, which an ordinary user's PATH may lack (depmod and modprobe live there). */
export const searchPath = [process.env.PATH ?? '', '/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin'].join(delimiter)

function findOnPath (program) {
  for (const folder of searchPath.split(delimiter)) {
    if (folder === '') continue
    const path = join(folder, program)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {}
  }
}

/** The initramfs has no C library, so busybox must not ask for a dynamic loader (ELF program header PT_INTERP = 3). */
function isStatic (path) {
  const head = Buffer.alloc(4096)
  const file = openSync(path, 'r')
  try { readSync(file, head, 0, head.length, 0) } finally { closeSync(file) }
  if (head.readUInt32BE(0) !== 0x7f454c46) return false
  const offset = Number(head.readBigUInt64LE(32))
  const size = head.readUInt16LE(54)
  const count = head.readUInt16LE(56)
  for (let at = offset; at < offset + size * count && at + 4 <= head.length; at += size) {
    if (head.readUInt32LE(at) === 3) return false
  }
  return true
}

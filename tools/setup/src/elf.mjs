import { closeSync, openSync, readSync } from 'node:fs'

const PT_INTERP = 3

/**
 * Whether a file is a static 64-bit ELF program: none of its program headers names a dynamic loader (elf(5)).
 *
 * @param {string} file
 * @returns {boolean} false for every other kind of file
 */
export function isStaticBinary (file) {
  const descriptor = openSync(file, 'r')
  try {
    const header = read(descriptor, 0, 64)
    if (header.length < 64 || header.toString('latin1', 0, 4) !== '\u007FELF' || header[4] !== 2 || header[5] !== 1) return false
    const entrySize = header.readUInt16LE(54)
    const entries = read(descriptor, Number(header.readBigUInt64LE(32)), entrySize * header.readUInt16LE(56))
    if (entrySize < 56) return false
    for (let at = 0; at + entrySize <= entries.length; at += entrySize) {
      if (entries.readUInt32LE(at) === PT_INTERP) return false
    }
    return true
  } finally {
    closeSync(descriptor)
  }
}

/**
 * @param {number} descriptor
 * @param {number} position
 * @param {number} length
 */
function read (descriptor, position, length) {
  const buffer = Buffer.alloc(length)
  return buffer.subarray(0, readSync(descriptor, buffer, 0, length, position))
}

import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'

/**
 * @param {string} root
 * @param {string} name which step
 * @returns {string | undefined} the fingerprint of the files with which the step last succeeded; undefined when it
 *   never succeeded
 */
export function readStamp (root, name) {
  try {
    return readFileSync(stampFile(root, name), 'utf8')
  } catch {
    return undefined
  }
}

/**
 * @param {string} root
 * @param {string} name
 * @param {string} fingerprint
 */
export function writeStamp (root, name, fingerprint) {
  const file = stampFile(root, name)
  mkdirSync(path.dirname(file), { recursive: true })
  const draft = `${file}.${process.pid}`
  writeFileSync(draft, fingerprint)
  renameSync(draft, file)
}

/**
 * @param {string} root
 * @param {string} name
 */
function stampFile (root, name) {
  return path.join(root, '.cache', 'setup', name)
}

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/**
 * Puts a shell script in the place of a program, to inject a fault that the real one cannot be made to have.
 *
 * @param {string} folder
 * @param {string} name
 * @param {string} script
 * @returns {string} its path
 */
export function faultyProgram (folder, name, script) {
  mkdirSync(folder, { recursive: true })
  const file = path.join(folder, name)
  writeFileSync(file, `#!/bin/sh\n${script}\n`)
  chmodSync(file, 0o755)
  return file
}

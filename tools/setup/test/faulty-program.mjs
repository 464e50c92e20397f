import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'

/**
 * Creates a shell script under the name of a program, to simulate a fault that the real program cannot be made to have.
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

import { spawn } from 'node:child_process'
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import path from 'node:path'
import process from 'node:process'
import { text } from 'node:stream/consumers'

/**
 * Runs the setup of a checkout as a user would.
 *
 * @param {string} root
 * @param {readonly string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, nodeArgs?: readonly string[], asNobody?: boolean }} [options]
 *   `env` is added to the environment of the tests; `asNobody` runs setup as an ordinary user even if the tests run as
 *   root
 * @returns {Promise<{ code: number | null, stdout: string, stderr: string }>}
 */
export async function runSetup (root, args, { env = {}, nodeArgs = [], asNobody = false } = {}) {
  const identity = asNobody && process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
  // tap sets NODE_OPTIONS to load itself into every child process. An ordinary user may not read tap in this checkout.
  const command = [
    '-u',
    'NODE_OPTIONS',
    'uid' in identity ? nodeForEverybody() : process.execPath,
    ...nodeArgs,
    path.join(root, 'tools/setup/setup.mjs'),
    ...args
  ]
  const child = spawn('/usr/bin/env', command, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...identity
  })
  const ended = new Promise((resolve, reject) => child.once('error', reject).once('close', resolve))
  const [stdout, stderr, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  return { code: /** @type {number | null} */ (code), stdout, stderr }
}

/** A path at which an ordinary user can run this Node. If Node is installed below the home folder, it is copied. */
function nodeForEverybody () {
  if (!process.execPath.startsWith(homedir() + path.sep)) return process.execPath
  const folder = mkdtempSync(path.join(tmpdir(), 'node-'))
  chmodSync(folder, 0o755)
  process.once('exit', () => {
    rmSync(folder, { recursive: true, force: true })
  })
  const copy = path.join(folder, 'node')
  copyFileSync(process.execPath, copy)
  chmodSync(copy, 0o755)
  return copy
}

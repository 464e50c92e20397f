import { mkdir, open, readFile, rm, stat, utimes } from 'node:fs/promises'
import { rmSync } from 'node:fs'
import path from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'

const BEAT_MS = 2_000
const STALE_MS = 15_000
const LOOK_AGAIN_MS = 250

/** @type {Set<string>} */
const held = new Set()

/**
 * Runs `work` only while no other setup of the same checkout runs: two concurrent `npm ci` would destroy each other's
 * `node_modules`. Takes over a lock whose owner has ended or has not updated the lock for 15 s.
 *
 * @template T
 * @param {string} file
 * @param {() => Promise<T>} work
 * @param {(ownerPid: string) => void} [onWait] called once when another setup holds the lock
 * @returns {Promise<T>}
 */
export async function withLock (file, work, onWait = () => {}) {
  await mkdir(path.dirname(file), { recursive: true })
  let told = false
  while (!await take(file)) {
    const owner = await readOwner(file)
    if (owner === undefined) continue
    if (owner.gone) {
      await takeAway(file)
      continue
    }
    if (!told) onWait(owner.pid)
    told = true
    await delay(LOOK_AGAIN_MS)
  }
  held.add(file)
  const beat = setInterval(() => { utimes(file, new Date(), new Date()).catch(() => {}) }, BEAT_MS)
  try {
    return await work()
  } finally {
    clearInterval(beat)
    held.delete(file)
    await rm(file, { force: true })
  }
}

/** Releases every lock of this process. Called when a signal ends setup. */
export function releaseLocks () {
  for (const file of held) rmSync(file, { force: true })
}

/**
 * @param {string} file
 * @returns {Promise<boolean>}
 */
async function take (file) {
  try {
    const handle = await open(file, 'wx')
    await handle.writeFile(String(process.pid))
    await handle.close()
    return true
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'EEXIST') return false
    throw error
  }
}

/**
 * @param {string} file
 * @returns {Promise<{ pid: string, gone: boolean } | undefined>} undefined when the lock has been released
 */
async function readOwner (file) {
  try {
    const pid = await readFile(file, 'utf8')
    const { mtimeMs } = await stat(file)
    // A new lock file is empty until its pid is written. The owner of an empty file counts as running for 15 s.
    return { pid, gone: Date.now() - mtimeMs > STALE_MS || (pid !== '' && !isAlive(Number(pid))) }
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return undefined
    throw error
  }
}

/**
 * Removes a lock whose owner is gone. Only one setup at a time may do this. Otherwise a second setup could remove the
 * lock that the first one has just taken.
 *
 * @param {string} file
 */
async function takeAway (file) {
  const guard = `${file}.takeover`
  try {
    await mkdir(guard)
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error
    const age = await stat(guard).then(({ mtimeMs }) => Date.now() - mtimeMs, () => 0)
    if (age > STALE_MS) await rm(guard, { recursive: true, force: true })
    await delay(LOOK_AGAIN_MS)
    return
  }
  try {
    const owner = await readOwner(file)
    if (owner?.gone) await rm(file, { force: true })
  } finally {
    await rm(guard, { recursive: true, force: true })
  }
}

/**
 * @param {number} pid
 * @returns {boolean} whether a process with this pid exists now. It may be another process than the original one.
 */
export function isAlive (pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM'
  }
}

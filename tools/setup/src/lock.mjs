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
 * Runs `work` while no other setup of the same checkout runs: two `npm ci` at once would destroy each other's tree.
 * A lock whose owner is gone, or has not touched it for 15 s, is taken over.
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

/** Gives back every lock of this process. For the moment setup itself is told to end. */
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
 * @returns {Promise<{ pid: string, gone: boolean } | undefined>} undefined when the lock was given back meanwhile
 */
async function readOwner (file) {
  try {
    const pid = await readFile(file, 'utf8')
    const { mtimeMs } = await stat(file)
    // Between creation and the pid being written the file is empty: such an owner is alive until its time runs out.
    return { pid, gone: Date.now() - mtimeMs > STALE_MS || (pid !== '' && !isAlive(Number(pid))) }
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return undefined
    throw error
  }
}

/**
 * Removes a lock whose owner is gone. Only one setup at a time may decide that: the second would otherwise remove the
 * lock that the first has just taken.
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
 * @returns {boolean} whether a process has this number now; it need not be the one that had it once
 */
export function isAlive (pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM'
  }
}

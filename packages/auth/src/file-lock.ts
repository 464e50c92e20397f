import { randomUUID } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { link, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { basename, dirname, join } from 'node:path'

/** Work under the lock takes milliseconds, so a lock of this age was left behind. */
const STALE_MS = 10_000
const RETRY_MS = 20
const DEADLINE_MS = 15_000

/**
 * Runs `work` while this process holds the lock file. A lock whose holder has died is broken: immediately
 * if the holder ran on this machine, after ten seconds otherwise. `work` must call `assertHeld` before
 * any step that cannot be undone. It throws (`ESTALE`) when this process was suspended for so long that
 * another process took over the lock.
 * Rejects with `EEXIST` when the lock is not free within 15 seconds.
 */
export async function withFileLock<T> (path: string, work: (assertHeld: () => void) => Promise<T>): Promise<T> {
  const holder = `${hostname()} ${process.pid} ${randomUUID()}`
  const end = Date.now() + DEADLINE_MS
  while (!await create(path, holder, end)) {
    // Only one process at a time breaks a stale lock, so that none removes a lock that has just been
    // taken.
    if (isStale(path)) {
      await withFileLock(`${path}.break`, async () => {
        if (isStale(path)) await rm(path, { force: true })
      })
    } else await new Promise(resolve => setTimeout(resolve, RETRY_MS))
  }
  const isHeld = (): boolean => contentOf(path) === holder
  try {
    return await work(() => { if (!isHeld()) throw Object.assign(new Error('the lock was lost'), { code: 'ESTALE' }) })
  } finally {
    if (isHeld()) await rm(path, { force: true })
  }
}

async function create (path: string, holder: string, end: number): Promise<boolean> {
  // Write the lock to a temporary file and link it: if the holder died before its name was written, all
  // others would have to wait.
  const whole = join(dirname(path), `.${basename(path)}.${randomUUID()}.tmp`)
  try {
    await writeFile(whole, holder, { flag: 'wx', mode: 0o600 })
    await link(whole, path)
    return true
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // ENOENT: a process that cleans up removed the temporary file as a leftover.
    if ((code !== 'EEXIST' && code !== 'ENOENT') || Date.now() > end) throw error
    return false
  } finally {
    await rm(whole, { force: true })
  }
}

function isStale (path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return false
  if (Date.now() - stat.mtimeMs > STALE_MS) return true
  const [host, pid] = contentOf(path).split(' ')
  return host === hostname() && !isRunning(Number(pid))
}

/** Returns the content of the lock; empty when it does not exist any more. */
function contentOf (path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function isRunning (pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

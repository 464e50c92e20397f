import { watch } from 'node:fs'
import type { FSWatcher } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

export interface V4l2Watch {
  /** Stops watching; `onChange` is not called again. */
  close (): void
}

export interface V4l2WatchOptions {
  /** The folder of device files. @default '/dev' */
  readonly dev?: string
  /**
   * How long to collect changes before telling, in milliseconds: a camera brings several nodes, and their permissions follow a moment later.
   * @default 250
   */
  readonly settleMs?: number
  /** How often to look where the system cannot tell of changes, in milliseconds. @default 2000 */
  readonly pollMs?: number
}

/**
 * Calls back when video nodes may have come, gone or changed their permissions; the caller then discovers again.
 * Neither the watch nor its timers keep the process alive.
 */
export function watchV4l2 (
  onChange: () => void,
  { dev = '/dev', settleMs = 250, pollMs = 2000 }: V4l2WatchOptions = {}
): V4l2Watch {
  let closed = false
  let settling: ReturnType<typeof setTimeout> | undefined
  let polling: ReturnType<typeof setTimeout> | undefined
  let watcher: FSWatcher | undefined

  const changed = (): void => {
    if (closed) return
    // Not restarted by further changes, so that a node that keeps changing cannot hold the news back.
    settling ??= setTimeout(() => {
      settling = undefined
      onChange()
    }, settleMs).unref()
  }

  const poll = (): void => {
    let before: string | undefined
    const look = async (): Promise<void> => {
      const now = await fingerprint(dev)
      if (closed) return
      if (before !== undefined && before !== now) changed()
      before = now
      polling = setTimeout(look, pollMs).unref()
    }
    void look()
  }

  try {
    watcher = watch(dev, { persistent: false }, (_event, name) => {
      if (name === null || isVideoNode(name)) changed()
    })
    watcher.on('error', () => {
      watcher?.close()
      if (closed) return
      // What happened up to here is unknown.
      changed()
      poll()
    })
  } catch {
    // No such folder, or no more inotify watches to be had.
    poll()
  }

  return {
    close () {
      closed = true
      clearTimeout(settling)
      clearTimeout(polling)
      watcher?.close()
    }
  }
}

function isVideoNode (name: string): boolean {
  return /^video\d+$/.test(name)
}

/** Changes whenever a node comes, goes, is made anew or changes its permissions. */
async function fingerprint (dev: string): Promise<string> {
  const names = (await readdir(dev).catch(() => [])).filter(isVideoNode).sort()
  const states = await Promise.all(names.map(async name => {
    const node = await stat(join(dev, name)).catch(() => undefined)
    return `${name} ${node?.ino} ${node?.ctimeMs}`
  }))
  return states.join('\n')
}

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
   * How long to collect changes before `onChange` is called, in milliseconds. A camera creates several nodes, and their
   * permissions are set a moment later.
   * @default 250
   */
  readonly settleMs?: number
  /** Polling interval if the system cannot notify about changes, in milliseconds. @default 2000 */
  readonly pollMs?: number
}

/**
 * Calls `onChange` when video nodes may have been added, removed or given other permissions. The caller then runs the
 * discovery again.
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
    // Further changes do not restart the timer, so that a node that keeps changing cannot delay the callback forever.
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
      // Changes before the error may have been missed.
      changed()
      poll()
    })
  } catch {
    // The folder does not exist, or no inotify watches are left.
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

/** A string that changes when a node is added, removed, recreated or given other permissions. */
async function fingerprint (dev: string): Promise<string> {
  const names = (await readdir(dev).catch(() => [])).filter(isVideoNode).sort()
  const states = await Promise.all(names.map(async name => {
    const node = await stat(join(dev, name)).catch(() => undefined)
    return `${name} ${node?.ino} ${node?.ctimeMs}`
  }))
  return states.join('\n')
}

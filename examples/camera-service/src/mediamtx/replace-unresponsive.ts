import type { EventEmitter } from 'node:events'
import type { MediaMtxProcess } from './process.js'
import type { ReconcilerEvents } from './reconciler.js'

/** A running MediaMTX that does not respond for this long is replaced. */
const UNRESPONSIVE_MS = 10_000

/**
 * Ends a MediaMTX process that runs but does not respond. Its supervisor then starts a new one. The time counts from
 * the last response of this process, or from when it was first seen running.
 */
export function replaceWhenUnresponsive (
  process: Pick<MediaMtxProcess, 'pid' | 'replace'>,
  reconciler: EventEmitter<ReconcilerEvents>,
  now: () => number = performance.now.bind(performance)
): void {
  let pid: number | null = null
  let respondedAt = now()
  reconciler.on('observed', paths => {
    if (paths !== null || process.pid !== pid) {
      pid = process.pid
      respondedAt = now()
    }
    if (pid === null || now() - respondedAt < UNRESPONSIVE_MS) return
    respondedAt = now()
    process.replace()
  })
}

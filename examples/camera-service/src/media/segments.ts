import { randomUUID } from 'node:crypto'
import { readdir, rename, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import type { FileRecord, OpenRecording } from '../library/library.js'
import { probe, type Ffmpeg } from './ffmpeg.js'
import { isFinished } from './fragmented-mp4.js'

export interface SegmentKeeperOptions {
  readonly tools: Ffmpeg
  /** Where finished recordings are stored. */
  readonly folder: string
  readonly log: FastifyBaseLogger
}

/** How long to wait until the media server has closed a segment after a stop of the recording. */
const CLOSING_MS = 3000
/** A segment that has not been written to for this long counts as closed. */
const IDLE_MS = 2500
const POLL_MS = 50

/**
 * Moves the segments of a recording to their permanent names and returns them in their order. Unreadable footage is
 * kept under another name, and an error is logged.
 */
export async function keepSegments (
  recording: OpenRecording,
  { tools, folder, log }: SegmentKeeperOptions
): Promise<FileRecord[]> {
  const files: FileRecord[] = []
  // Files that an earlier, interrupted attempt has already moved come first.
  for (const segment of [...await movedSegments(recording, folder), ...await segmentsIn(recording.folder)]) {
    await waitUntilClosed(segment)
    try {
      const facts = await probe(tools, segment)
      const name = `${recording.name}${files.length === 0 ? '' : `_${files.length + 1}`}.mp4`
      const path = join(folder, name)
      const { size, birthtimeMs } = await stat(segment)
      await rename(segment, path)
      files.push({
        name,
        kind: 'recording',
        camera: recording.camera,
        path,
        sizeBytes: size,
        createdAt: files.length === 0 ? recording.startedAt : Math.round(birthtimeMs),
        durationSeconds: facts.durationSeconds,
        width: facts.width,
        height: facts.height
      })
    } catch (error) {
      const kept = join(folder, `.unreadable-${recording.name}-${randomUUID()}.mp4`)
      await rename(segment, kept).catch(() => {})
      log.error({ err: error, file: kept }, 'a segment of a recording is not playable; it is kept in a file of its own')
    }
  }
  return files
}

/**
 * Waits for the first footage of a recording, as long as `isWanted` returns true and for at most `timeoutMs`. Returns
 * its start in milliseconds since the epoch, or null.
 */
export async function firstFootage (
  folder: string,
  timeoutMs: number,
  isWanted: () => boolean
): Promise<number | null> {
  const deadline = Date.now() + timeoutMs
  while (Date.now() < deadline && isWanted()) {
    for (const segment of await segmentsIn(folder)) {
      if ((await stat(segment)).size > 0) return startOf(segment) ?? Date.now()
    }
    await delay(POLL_MS)
  }
  return null
}

async function segmentsIn (folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])
  return entries
    .filter(entry => entry.isFile() && entry.name.endsWith('.mp4'))
    .map(entry => join(entry.parentPath, entry.name))
    .sort()
}

async function movedSegments (recording: OpenRecording, folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [])
  // Sort by number, `_10` after `_9`. Otherwise renaming would overwrite another file.
  return names
    .filter(name => name.startsWith(recording.name) && name.endsWith('.mp4'))
    .sort((a, b) => a.length - b.length || (a < b ? -1 : 1))
    .map(name => join(folder, name))
}

/** Waits until the media server has closed a segment or stopped writing to it, for a limited time. */
async function waitUntilClosed (file: string): Promise<void> {
  const deadline = Date.now() + CLOSING_MS
  let lastSize = -1
  while (Date.now() < deadline && !await isFinished(file)) {
    const { size, mtimeMs } = await stat(file)
    if (size === lastSize && Date.now() - mtimeMs > IDLE_MS) return
    lastSize = size
    await delay(POLL_MS)
  }
}

/** The media server names a segment after the time of its first frame: `seconds-microseconds.mp4`. */
function startOf (segment: string): number | null {
  const [, seconds, micros] = /^(\d+)-(\d{6})\.mp4$/.exec(basename(segment)) ?? []
  return seconds === undefined ? null : Number(seconds) * 1000 + Number(micros) / 1000
}

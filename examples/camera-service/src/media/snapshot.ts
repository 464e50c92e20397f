import { randomBytes } from 'node:crypto'
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { FileRecord, Library } from '../library/library.js'
import { asStorageError, type Storage } from '../library/storage.js'
import { bounded, probe, type Ffmpeg } from './ffmpeg.js'
import { fileName } from './file-name.js'

export type SnapshotFormat = 'jpg' | 'png'

export interface SnapshotRequest {
  readonly camera: string
  readonly format: SnapshotFormat
  /** 1 (smallest file) to 100 (best picture); for JPEG only. */
  readonly quality: number
  /** RTSP URL on loopback, with a short-lived credential. */
  readonly streamUrl: string
}

export interface SnapshotOptions {
  readonly tools: Ffmpeg
  readonly library: Library
  readonly storage: Storage
  readonly folder: string
  /** Timeout for taking the picture, in milliseconds. */
  readonly timeoutMs: number
}

/** Takes one picture from a live stream and stores it. */
export async function takeSnapshot (
  { tools, library, storage, folder, timeoutMs }: SnapshotOptions,
  request: SnapshotRequest
): Promise<FileRecord> {
  await storage.assertSpace()
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const createdAt = Date.now()
  const name = fileName(request.camera, createdAt, request.format)
  const part = join(folder, `.${randomBytes(8).toString('hex')}.${request.format}`)
  try {
    await bounded(
      tools.ffmpeg,
      [
        '-hide_banner',
        '-loglevel',
        'error',
        '-nostdin',
        '-rtsp_transport',
        'tcp',
        '-i',
        request.streamUrl,
        '-frames:v',
        '1',
        ...(request.format === 'jpg' ? ['-q:v', String(jpegScale(request.quality)), '-pix_fmt', 'yuvj420p'] : []),
        '-f',
        'image2',
        '-update',
        '1',
        part
      ],
      timeoutMs
    )
    const [{ size }, facts] = await Promise.all([stat(part), probe(tools, part)])
    const path = join(folder, name)
    await rename(part, path)
    const record: FileRecord = {
      name,
      kind: 'snapshot',
      camera: request.camera,
      path,
      sizeBytes: size,
      createdAt,
      durationSeconds: null,
      width: facts.width,
      height: facts.height
    }
    library.addFile(record)
    return record
  } catch (error) {
    throw asStorageError(error)
  } finally {
    await rm(part, { force: true })
  }
}

/** Converts the quality to ffmpeg's JPEG quantiser, which ranges from 2 (best) to 31 (worst). */
function jpegScale (quality: number): number {
  return Math.round(31 - (quality - 1) / 99 * 29)
}

import type { FastifyBaseLogger } from 'fastify'
import { CheckpointLog } from '../checkpoints/checkpoint-log.js'
import { createFileSink } from './file-sink.js'
import type { ResolvedAuditOptions, ResolvedSink } from '../options.js'
import { pruneRecord } from '../own-records.js'
import { createRedisSink } from './redis-sink.js'
import { deleteFiles, expiredFiles } from './retention.js'
import type { AuditSink } from './sink.js'
import { createStdoutSink } from './stdout-sink.js'
import { AuditWriter } from '../writer.js'

type ResolvedFileSink = Extract<ResolvedSink, { readonly name: 'file' }>
type ErrorLogger = (error: unknown, lostEvents?: number) => void

/** Limits error messages: a full disk fails every event, and unlimited messages would fill the application log too. */
const LOG_EVERY_MS = 10_000

/** Opens the sink, the checkpoints and the writer, and deletes expired files. Returns null when the sink is `none`. */
export async function openLog (
  { sink, mode, checkpoints }: ResolvedAuditOptions,
  log: FastifyBaseLogger
): Promise<AuditWriter | null> {
  if (sink.name === 'none') return null
  const writer = new AuditWriter({
    sink: sink.name === 'file' ? openFile(sink) : createSink(sink),
    mode,
    checkpoints:
      checkpoints === null
        ? null
        : new CheckpointLog({
          ...checkpoints,
          onError: errorLogger(log, 'a checkpoint of the audit log could not be signed or passed on')
        }),
    onError: errorLogger(log, 'audit events cannot be written')
  })
  const pruneFiles = sink.name === 'file' ? createPruning(sink, writer, log) : async () => {}
  try {
    await writer.open()
  } catch (error) {
    await writer.close()
    throw error
  }
  void pruneFiles()
  return writer

  function openFile ({ settings }: ResolvedFileSink): AuditSink {
    return createFileSink({
      ...settings,
      onRotateError: errorLogger(log, 'the audit log cannot be rotated; it continues in the same file'),
      async onRotated (end) {
        await writer.signEnd(end)
        // Do not wait: the current write would wait for the record of the deletion, which is written after it.
        void pruneFiles()
      }
    })
  }
}

function createSink (sink: Exclude<ResolvedSink, ResolvedFileSink>): AuditSink {
  if (sink.name === 'custom') return sink.sink
  return sink.name === 'redis' ? createRedisSink(sink.settings) : createStdoutSink()
}

/** Returns a function that deletes the expired files, one run at a time. It never rejects. */
function createPruning (
  { settings, retentionSeconds }: ResolvedFileSink,
  writer: AuditWriter,
  log: FastifyBaseLogger
): () => Promise<void> {
  if (retentionSeconds === null) return async () => {}
  const onError = errorLogger(log, 'old files of the audit log could not be deleted')
  let isPruning = false
  return async () => {
    if (isPruning) return
    isPruning = true
    try {
      const expired = await expiredFiles(settings.file, retentionSeconds)
      if (expired === null) return
      await writer.writeSigned(pruneRecord(expired))
      await deleteFiles(expired.files)
    } catch (error) {
      onError(error)
    } finally {
      isPruning = false
    }
  }
}

/** Returns a function that logs an error with this message, unless it has done so a short time ago. */
function errorLogger (log: FastifyBaseLogger, message: string): ErrorLogger {
  let loggedAt = -Infinity
  return (error, lostEvents) => {
    if (Date.now() - loggedAt < LOG_EVERY_MS) return
    loggedAt = Date.now()
    log.error({ err: error, ...(lostEvents === undefined ? {} : { lostEvents }) }, message)
  }
}

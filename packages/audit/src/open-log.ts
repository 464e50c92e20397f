import type { FastifyBaseLogger } from 'fastify'
import { createFileSink } from './file-sink.js'
import { createHeadLog } from './head-log.js'
import type { ResolvedAuditOptions } from './options.js'
import { pruneRecord } from './own-records.js'
import { createRedisSink } from './redis-sink.js'
import { deleteFiles, expiredFiles } from './retention.js'
import type { AuditSink } from './sink.js'
import { createStdoutSink } from './stdout-sink.js'
import { createAuditWriter, type AuditWriter } from './writer.js'

/** Limits error messages: a full disk fails every event, and unlimited messages would fill the application log too. */
const TELL_EVERY_MS = 10_000

/** Opens the sink, the heads and the writer, and deletes expired files. Returns null when the sink is `none`. */
export async function openLog (
  { sink: target, mode, heads: headOptions }: ResolvedAuditOptions,
  log: FastifyBaseLogger
): Promise<AuditWriter | null> {
  if (target.name === 'none') return null
  const tell = (message: string): ((error: unknown, lostEvents?: number) => void) => {
    let toldAt = -Infinity
    return (error, lostEvents) => {
      if (Date.now() - toldAt < TELL_EVERY_MS) return
      toldAt = Date.now()
      log.error({ err: error, ...(lostEvents === undefined ? {} : { lostEvents }) }, message)
    }
  }

  const heads =
    headOptions === null
      ? null
      : createHeadLog({ ...headOptions, onError: tell('a head of the audit log was not signed or not handed on') })
  const writer: AuditWriter = createAuditWriter({
    sink: createSink(),
    mode,
    heads,
    onError: tell('audit events cannot be written')
  })
  const tellOfPruning = tell('old files of the audit log could not be deleted')
  let pruning = false
  try {
    await writer.open()
  } catch (error) {
    await writer.close()
    throw error
  }
  void prune()
  return writer

  function createSink (): AuditSink {
    if (target.name === 'custom') return target.sink
    if (target.name === 'redis') return createRedisSink(target.settings)
    if (target.name !== 'file') return createStdoutSink()
    return createFileSink({
      ...target.settings,
      onRotateError: tell('the audit log cannot be rotated and goes on in the same file'),
      async onRotated (end) {
        await writer.signEnd(end)
        // Do not wait: the current write would wait for the record of the deletion, which is written after it.
        void prune()
      }
    })
  }

  async function prune (): Promise<void> {
    if (target.name !== 'file' || target.retentionDays === null || pruning) return
    pruning = true
    try {
      const expired = await expiredFiles(target.settings.file, target.retentionDays)
      if (expired === null) return
      await writer.writeSigned(pruneRecord(expired))
      await deleteFiles(expired.files)
    } catch (error) {
      tellOfPruning(error)
    } finally {
      pruning = false
    }
  }
}

import { closest } from '@marty/core'
import { AuditOptionInvalid } from './errors.js'
import { createFileSink, type FileSinkOptions } from './file-sink.js'
import type { AuditProduct } from './record.js'
import type { AuditSink } from './sink.js'
import { createStdoutSink } from './stdout-sink.js'

export interface AuditOptions {
  /**
   * Where events are written: nowhere, standard output, a file, or your own sink. `mode: 'sync'` waits until an event is on
   * disk before it is acknowledged; `async` batches, and loses at most about 100 ms of events with the process.
   */
  readonly sink: 'none' | 'stdout' | FileSinkOptions | AuditSink
  /** Names of details that are never written, besides well-known ones such as `password`. @default [] */
  readonly redact?: readonly string[]
  /** The service, as every record tells it. */
  readonly product: AuditProduct
}

export interface ResolvedAuditOptions {
  readonly sink: AuditSink | null
  readonly mode: 'sync' | 'async'
  readonly secretNames: ReadonlySet<string>
  readonly product: AuditProduct
}

const FIELDS = ['sink', 'redact', 'product']

/** Checks the options and fills in the defaults. Throws `MARTY_AUDIT_OPT_INVALID` naming the field. */
export function resolveOptions (options: AuditOptions): ResolvedAuditOptions {
  for (const field of Object.keys(options ?? {})) {
    // Fastify passes its own register options along.
    if (FIELDS.includes(field) || ['prefix', 'logLevel', 'logSerializers'].includes(field)) continue
    const near = closest(field, FIELDS)
    throw invalid(field, `is not known; ${near === null ? `known are ${FIELDS.join(', ')}` : `did you mean "${near}"?`}`)
  }
  const { sink, redact = [], product } = options ?? {}
  if (!Array.isArray(redact) || !redact.every(name => typeof name === 'string' && name !== '')) throw invalid('redact', 'must be a list of names')
  for (const field of ['name', 'version'] as const) {
    if (typeof product?.[field] !== 'string' || product[field] === '') throw invalid(`product.${field}`, 'must be a text that is not empty')
  }
  return Object.freeze({ ...resolveSink(sink), secretNames: new Set(redact.map(name => name.toLowerCase())), product })
}

function resolveSink (sink: AuditOptions['sink']): Pick<ResolvedAuditOptions, 'sink' | 'mode'> {
  if (sink === 'none') return { sink: null, mode: 'sync' }
  if (sink === 'stdout') return { sink: createStdoutSink(), mode: 'sync' }
  if (typeof sink !== 'object' || sink === null) throw invalid('sink', 'must be "none", "stdout", { file, mode } or an object with write()')
  if ('write' in sink) {
    if (typeof sink.write !== 'function') throw invalid('sink.write', 'must be a function')
    return { sink, mode: 'sync' }
  }
  if (typeof sink.file !== 'string' || sink.file === '') throw invalid('sink.file', 'must be the path of a file')
  if (sink.mode !== 'sync' && sink.mode !== 'async') throw invalid('sink.mode', 'must be "sync" or "async"')
  return { sink: createFileSink(sink), mode: sink.mode }
}

function invalid (field: string, problem: string): Error {
  return new AuditOptionInvalid(`audit option "${field}" ${problem}`)
}

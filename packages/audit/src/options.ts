import { closest } from '@marty/core'
import { createPrivateKey, type KeyObject } from 'node:crypto'
import { AuditOptionInvalid } from './errors.js'
import type { AuditRotation, FileSinkOptions, FileSinkSettings } from './sinks/file-sink.js'
import type { AuditCheckpoints, CheckpointLogSettings } from './checkpoints/checkpoint-log.js'
import { checkpointsFileOf } from './checkpoints/checkpoint.js'
import type { AuditProduct } from './record.js'
import type { RedisSinkOptions } from './sinks/redis-sink.js'
import type { AuditSink } from './sinks/sink.js'

export interface AuditOptions {
  /**
   * Where events are written: nowhere, to standard output, a file, a Redis stream, or your own sink. `mode: 'sync'`
   * acknowledges an event only when it is durable. `async` writes in batches; when the process is killed, at most about
   * 100 ms of events are lost.
   */
  readonly sink: 'none' | 'stdout' | FileSinkOptions | RedisSinkOptions | AuditSink
  /**
   * Signs the end of the chain regularly, so that a truncated, rolled back or rewritten log is detected.
   * @default no checkpoints are signed
   */
  readonly checkpoints?: AuditCheckpoints
  /** Names of details whose values are never written, in addition to well-known ones such as `password`. @default [] */
  readonly redact?: readonly string[]
  /** The name and version of the service, written in every record. */
  readonly product: AuditProduct
}

export type ResolvedSink =
  | { readonly name: 'none' | 'stdout' }
  | { readonly name: 'custom', readonly sink: AuditSink }
  | { readonly name: 'redis', readonly settings: Required<RedisSinkOptions> }
  | {
    readonly name: 'file'
    readonly settings: Pick<FileSinkSettings, 'file' | 'mode' | 'rotate'>
    readonly retentionSeconds: number | null
  }

export interface ResolvedAuditOptions {
  readonly sink: ResolvedSink
  readonly mode: 'sync' | 'async'
  readonly checkpoints: Omit<CheckpointLogSettings, 'onError'> | null
  readonly secretNames: ReadonlySet<string>
  readonly product: AuditProduct
}

const MODES = ['sync', 'async']
const YEAR_SECONDS = 365 * 86_400

/** Validates the options and fills in the defaults. Throws `MARTY_AUDIT_OPT_INVALID` naming the field. */
export function resolveOptions (options: AuditOptions): ResolvedAuditOptions {
  // Fastify passes its own register options along.
  knownFields('', options ?? {}, ['sink', 'checkpoints', 'redact', 'product'], ['prefix', 'logLevel', 'logSerializers'])
  const { redact = [], product } = options ?? {}
  if (!Array.isArray(redact) || !redact.every(name => typeof name === 'string' && name !== '')) {
    throw invalid('redact', 'must be a list of names')
  }
  for (const field of ['name', 'version'] as const) {
    if (typeof product?.[field] !== 'string' || product[field] === '') {
      throw invalid(`product.${field}`, 'must be a non-empty string')
    }
  }
  const sink = resolveSink(options.sink)
  const mode = 'settings' in sink ? sink.settings.mode : 'sync'
  return Object.freeze({
    sink,
    mode,
    checkpoints: resolveCheckpoints(options.checkpoints, sink),
    secretNames: new Set(redact.map(name => name.toLowerCase())),
    product
  })
}

function resolveSink (sink: AuditOptions['sink']): ResolvedSink {
  if (sink === 'none' || sink === 'stdout') return { name: sink }
  if (typeof sink !== 'object' || sink === null) {
    throw invalid('sink', 'must be "none", "stdout", { file, mode }, { redis, stream } or an object with write()')
  }
  if ('write' in sink) {
    if (typeof sink.write !== 'function') throw invalid('sink.write', 'must be a function')
    return { name: 'custom', sink }
  }
  if ('redis' in sink) return resolveRedis(sink)
  knownFields('sink.', sink, ['file', 'mode', 'rotate', 'retention'])
  if (typeof sink.file !== 'string' || sink.file === '') throw invalid('sink.file', 'must be the path of a file')
  if (!MODES.includes(sink.mode)) throw invalid('sink.mode', 'must be "sync" or "async"')
  return {
    name: 'file',
    settings: { file: sink.file, mode: sink.mode, rotate: resolveRotation(sink.rotate) },
    retentionSeconds:
      sink.retention === undefined
        ? null
        : positive('sink.retention.maxAgeSeconds', sink.retention?.maxAgeSeconds, YEAR_SECONDS)
  }
}

function resolveRotation (rotate: FileSinkOptions['rotate'] = {}): Required<AuditRotation> | false {
  if (rotate === false) return false
  if (typeof rotate !== 'object' || rotate === null) {
    throw invalid('sink.rotate', 'must be { maxBytes, maxAgeSeconds } or false')
  }
  knownFields('sink.rotate.', rotate, ['maxBytes', 'maxAgeSeconds'])
  return {
    maxBytes: positive('sink.rotate.maxBytes', rotate.maxBytes, 100 * 1024 * 1024),
    maxAgeSeconds: positive('sink.rotate.maxAgeSeconds', rotate.maxAgeSeconds, 86_400)
  }
}

function resolveRedis (sink: RedisSinkOptions): ResolvedSink {
  knownFields('sink.', sink, ['redis', 'stream', 'mode', 'maxRecords', 'ttlSeconds'])
  const { redis, stream, mode = 'sync' } = sink
  if (typeof redis?.evalsha !== 'function' || typeof redis.eval !== 'function') {
    throw invalid('sink.redis', 'must be a Redis client with evalsha() and eval(), such as ioredis')
  }
  if (typeof stream !== 'string' || stream === '') throw invalid('sink.stream', 'must be the key of a stream')
  if (!MODES.includes(mode)) throw invalid('sink.mode', 'must be "sync" or "async"')
  return {
    name: 'redis',
    settings: {
      redis,
      stream,
      mode,
      maxRecords: Math.ceil(positive('sink.maxRecords', sink.maxRecords, 100_000)),
      ttlSeconds: positive('sink.ttlSeconds', sink.ttlSeconds, YEAR_SECONDS)
    }
  }
}

function resolveCheckpoints (checkpoints: AuditCheckpoints | undefined, sink: ResolvedSink): ResolvedAuditOptions['checkpoints'] {
  if (checkpoints === undefined) return null
  if (typeof checkpoints !== 'object' || checkpoints === null) throw invalid('checkpoints', 'must be { key }')
  knownFields('checkpoints.', checkpoints, ['key', 'file', 'everySeconds', 'everyEvents', 'onCheckpoint'])
  const { file, onCheckpoint = null } = checkpoints
  if (onCheckpoint !== null && typeof onCheckpoint !== 'function') throw invalid('checkpoints.onCheckpoint', 'must be a function')
  if (file !== undefined && (typeof file !== 'string' || file === '')) {
    throw invalid('checkpoints.file', 'must be the path of a file')
  }
  const resumes =
    sink.name === 'file' || sink.name === 'redis' || (sink.name === 'custom' && sink.sink.resume !== undefined)
  if (file !== undefined && !resumes) {
    throw invalid('checkpoints.file', 'needs a sink whose chain continues after a restart; use checkpoints.onCheckpoint instead')
  }
  const path = file ?? (sink.name === 'file' ? checkpointsFileOf(sink.settings.file) : null)
  if (path === null && onCheckpoint === null) throw invalid('checkpoints', 'must say where checkpoints are stored: checkpoints.file or checkpoints.onCheckpoint')
  return {
    key: privateKey(checkpoints.key),
    file: path,
    onCheckpoint,
    everySeconds: positive('checkpoints.everySeconds', checkpoints.everySeconds, 60),
    everyEvents: positive('checkpoints.everyEvents', checkpoints.everyEvents, 1000)
  }
}

function privateKey (key: KeyObject | string): KeyObject {
  let object: KeyObject | null = null
  try {
    object = typeof key === 'string' ? createPrivateKey(key) : key
  } catch {}
  // Do not report why a key could not be read: the reason may quote the key.
  if (object?.type !== 'private' || object.asymmetricKeyType !== 'ed25519') {
    throw invalid('checkpoints.key', 'must be an Ed25519 private key, as a KeyObject or PEM')
  }
  return object
}

function positive (field: string, value: number | undefined, fallback: number): number {
  const number = value ?? fallback
  if (typeof number !== 'number' || !(number > 0) || number === Infinity) {
    throw invalid(field, 'must be a number above 0')
  }
  return number
}

function knownFields (
  parent: string,
  options: object,
  fields: readonly string[],
  passed: readonly string[] = []
): void {
  for (const field of Object.keys(options)) {
    if (fields.includes(field) || passed.includes(field)) continue
    const near = closest(field, fields)
    throw invalid(
      `${parent}${field}`,
      `is not known; ${near === null ? `known are ${fields.join(', ')}` : `did you mean "${near}"?`}`
    )
  }
}

function invalid (field: string, problem: string): Error {
  return new AuditOptionInvalid(`audit option "${field}" ${problem}`)
}

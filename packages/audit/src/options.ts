import { closest } from '@marty/core'
import { createPrivateKey, type KeyObject } from 'node:crypto'
import { AuditOptionInvalid } from './errors.js'
import type { AuditRotation, FileSinkOptions, FileSinkSettings } from './file-sink.js'
import type { AuditHeads, HeadLogSettings } from './head-log.js'
import type { AuditProduct } from './record.js'
import type { RedisSinkOptions } from './redis-sink.js'
import type { AuditSink } from './sink.js'

export interface AuditOptions {
  /**
   * Where events are written: nowhere, to standard output, a file, a Redis stream, or your own sink. `mode: 'sync'`
   * acknowledges an event only when it is durable. `async` writes in batches; when the process is killed, at most about
   * 100 ms of events are lost.
   */
  readonly sink: 'none' | 'stdout' | FileSinkOptions | RedisSinkOptions | AuditSink
  /**
   * Signs the end of the chain regularly, so that a truncated, rolled back or rewritten log is detected.
   * @default no heads are signed
   */
  readonly heads?: AuditHeads
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
    readonly retentionDays: number | null
  }

export interface ResolvedAuditOptions {
  readonly sink: ResolvedSink
  readonly mode: 'sync' | 'async'
  readonly heads: Omit<HeadLogSettings, 'onError'> | null
  readonly secretNames: ReadonlySet<string>
  readonly product: AuditProduct
}

const MODES = ['sync', 'async']

/** Validates the options and fills in the defaults. Throws `MARTY_AUDIT_OPT_INVALID` naming the field. */
export function resolveOptions (options: AuditOptions): ResolvedAuditOptions {
  // Fastify passes its own register options along.
  knownFields('', options ?? {}, ['sink', 'heads', 'redact', 'product'], ['prefix', 'logLevel', 'logSerializers'])
  const { redact = [], product } = options ?? {}
  if (!Array.isArray(redact) || !redact.every(name => typeof name === 'string' && name !== '')) {
    throw invalid('redact', 'must be a list of names')
  }
  for (const field of ['name', 'version'] as const) {
    if (typeof product?.[field] !== 'string' || product[field] === '') {
      throw invalid(`product.${field}`, 'must be a text that is not empty')
    }
  }
  const sink = resolveSink(options.sink)
  const mode = 'settings' in sink ? sink.settings.mode : 'sync'
  return Object.freeze({
    sink,
    mode,
    heads: resolveHeads(options.heads, sink),
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
    retentionDays: sink.retention === undefined ? null : positive('sink.retention.days', sink.retention?.days, 365)
  }
}

function resolveRotation (rotate: FileSinkOptions['rotate'] = {}): Required<AuditRotation> | false {
  if (rotate === false) return false
  if (typeof rotate !== 'object' || rotate === null) {
    throw invalid('sink.rotate', 'must be { maxBytes, maxAgeHours } or false')
  }
  knownFields('sink.rotate.', rotate, ['maxBytes', 'maxAgeHours'])
  return {
    maxBytes: positive('sink.rotate.maxBytes', rotate.maxBytes, 100 * 1024 * 1024),
    maxAgeHours: positive('sink.rotate.maxAgeHours', rotate.maxAgeHours, 24)
  }
}

function resolveRedis (sink: RedisSinkOptions): ResolvedSink {
  knownFields('sink.', sink, ['redis', 'stream', 'mode', 'maxLen', 'ttlDays'])
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
      maxLen: Math.ceil(positive('sink.maxLen', sink.maxLen, 100_000)),
      ttlDays: positive('sink.ttlDays', sink.ttlDays, 365)
    }
  }
}

function resolveHeads (heads: AuditHeads | undefined, sink: ResolvedSink): ResolvedAuditOptions['heads'] {
  if (heads === undefined) return null
  if (typeof heads !== 'object' || heads === null) throw invalid('heads', 'must be { key }')
  knownFields('heads.', heads, ['key', 'file', 'everySeconds', 'everyEvents', 'onHead'])
  const { file, onHead = null } = heads
  if (onHead !== null && typeof onHead !== 'function') throw invalid('heads.onHead', 'must be a function')
  if (file !== undefined && (typeof file !== 'string' || file === '')) {
    throw invalid('heads.file', 'must be the path of a file')
  }
  const resumes =
    sink.name === 'file' || sink.name === 'redis' || (sink.name === 'custom' && sink.sink.resume !== undefined)
  if (file !== undefined && !resumes) {
    throw invalid('heads.file', 'needs a sink whose chain goes on after a restart; use heads.onHead')
  }
  const path = file ?? (sink.name === 'file' ? `${sink.settings.file}.heads` : null)
  if (path === null && onHead === null) throw invalid('heads', 'must say where heads go: heads.file or heads.onHead')
  return {
    key: privateKey(heads.key),
    file: path,
    onHead,
    everySeconds: positive('heads.everySeconds', heads.everySeconds, 60),
    everyEvents: positive('heads.everyEvents', heads.everyEvents, 1000)
  }
}

function privateKey (key: KeyObject | string): KeyObject {
  let object: KeyObject | null = null
  try {
    object = typeof key === 'string' ? createPrivateKey(key) : key
  } catch {}
  // Do not report why a key could not be read: the reason may quote the key.
  if (object?.type !== 'private' || object.asymmetricKeyType !== 'ed25519') {
    throw invalid('heads.key', 'must be an Ed25519 private key, as a KeyObject or PEM')
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

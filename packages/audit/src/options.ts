import { checkOptions, optionsInvalid, type OptionScope, type OptionTable } from '@marty/core'
import { createPrivateKey, type KeyObject } from 'node:crypto'
import { AuditOptionInvalid } from './errors.js'
import type { AuditRetention, AuditRotation, FileSinkOptions, FileSinkSettings } from './sinks/file-sink.js'
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

type CheckedSink =
  | 'none' | 'stdout' | AuditSink | Required<RedisSinkOptions>
  | (Omit<FileSinkSettings, 'onRotated' | 'onRotateError'> & { readonly retention: Required<AuditRetention> | undefined })
type CheckedCheckpoints = Pick<AuditCheckpoints, 'key' | 'file' | 'onCheckpoint'> &
  Required<Pick<AuditCheckpoints, 'everySeconds' | 'everyEvents'>>

interface CheckedOptions extends Required<Pick<AuditOptions, 'redact' | 'product'>> {
  readonly sink: CheckedSink
  readonly checkpoints: CheckedCheckpoints | undefined
}

const YEAR_SECONDS = 365 * 86_400
const SCOPE: OptionScope = { subject: 'audit', refuse: message => new AuditOptionInvalid(message), isPlugin: true }

const ROTATION: OptionTable<AuditRotation> = {
  maxBytes: {
    kind: 'number',
    above: 0,
    default: 100 * 1024 * 1024,
    defaultText: '100 MiB',
    about: 'Starts a new file before the current one would exceed this size.'
  },
  maxAgeSeconds: {
    kind: 'number',
    above: 0,
    default: 86_400,
    about: 'Starts a new file when the first record of the current one is this old.'
  }
}

const RETENTION: OptionTable<AuditRetention> = {
  maxAgeSeconds: {
    kind: 'number',
    above: 0,
    default: YEAR_SECONDS,
    about: 'Deletes files whose last record is older than this.'
  }
}

const FILE: OptionTable<FileSinkOptions, Extract<CheckedSink, { readonly file: string }>> = {
  file: { kind: 'string', expected: 'the path of a file', about: 'The path of the log.' },
  mode: {
    kind: 'choice',
    choices: ['sync', 'async'],
    about: 'When an event is acknowledged: once it is on disk, or immediately.'
  },
  rotate: {
    kind: 'object',
    or: [false],
    options: ROTATION,
    default: {},
    defaultText: '100 MiB or one day',
    about: 'When a new file is started; `false` disables rotation.'
  },
  retention: {
    kind: 'object',
    options: RETENTION,
    optional: true,
    defaultText: 'nothing is deleted',
    about: 'Deletes whole rotated files, and records this in the log.'
  }
}

const REDIS: OptionTable<RedisSinkOptions> = {
  redis: {
    kind: 'custom',
    expected: 'a Redis client with evalsha() and eval(), such as ioredis',
    accepts: isScriptClient,
    about: 'A connected client with a command timeout. The sink never closes it.'
  },
  stream: {
    kind: 'string',
    expected: 'the key of a stream',
    about: 'Key of the stream. A chain has one writer: give each replica a stream of its own.'
  },
  mode: {
    kind: 'choice',
    choices: ['sync', 'async'],
    default: 'sync',
    about: 'When an event is acknowledged: once it is in Redis, or immediately.'
  },
  maxRecords: {
    kind: 'number',
    above: 0,
    default: 100_000,
    about: 'About how many records the stream keeps; older ones are dropped.'
  },
  ttlSeconds: {
    kind: 'number',
    above: 0,
    default: YEAR_SECONDS,
    about: 'The stream expires when nothing has been written to it for this long.'
  }
}

const CHECKPOINTS: OptionTable<AuditCheckpoints, CheckedCheckpoints> = {
  key: {
    kind: 'custom',
    expected: 'an Ed25519 private key, as a KeyObject or PEM',
    accepts: value => privateKeyOf(value) !== null,
    secret: true,
    about: 'Signs the checkpoints.'
  },
  file: {
    kind: 'string',
    expected: 'the path of a file',
    optional: true,
    defaultText: '`<log>.heads` beside a log file; none for other sinks',
    about: 'The file to which checkpoints are appended, one JSON line each.'
  },
  everySeconds: {
    kind: 'number',
    above: 0,
    default: 60,
    about: 'Signs a checkpoint when the last one is this old and there were events since.'
  },
  everyEvents: { kind: 'number', above: 0, default: 1000, about: 'Signs a checkpoint after this many events.' },
  onCheckpoint: {
    kind: 'function',
    optional: true,
    about: 'Receives every checkpoint, to store it where no one who can write the log can write.'
  }
}

const PRODUCT: OptionTable<AuditProduct> = {
  name: { kind: 'string', about: 'The name of the service.' },
  version: { kind: 'string', about: 'The version of the service.' }
}

export const OPTIONS: OptionTable<AuditOptions, CheckedOptions> = {
  sink: {
    kind: 'oneOf',
    or: ['none', 'stdout'],
    forms: {
      write: {
        kind: 'custom',
        expected: 'a sink of your own with write()',
        accepts: value => typeof value === 'object' && value !== null
      },
      redis: { kind: 'object', options: REDIS },
      file: { kind: 'object', options: FILE }
    },
    about: 'Where events are written: see [Sinks](#sinks).'
  },
  product: { kind: 'object', options: PRODUCT, about: 'The service, written in every record.' },
  checkpoints: {
    kind: 'object',
    options: CHECKPOINTS,
    optional: true,
    about: 'Signs the end of the chain regularly: see [Sign the log](#sign-the-log).'
  },
  redact: {
    kind: 'list',
    items: { kind: 'string', expected: 'the name of a detail' },
    default: [],
    about: 'Additional names of details whose values are never written.'
  }
}

/** Checks the options and fills in the defaults. Throws `MARTY_AUDIT_OPT_INVALID` naming the field. */
export function resolveOptions (options: AuditOptions): ResolvedAuditOptions {
  const checked = checkOptions(OPTIONS, options, SCOPE)
  const sink = resolveSink(checked.sink)
  return Object.freeze({
    sink,
    mode: 'settings' in sink ? sink.settings.mode : 'sync',
    checkpoints: resolveCheckpoints(checked.checkpoints, sink),
    secretNames: new Set(checked.redact.map(name => name.toLowerCase())),
    product: checked.product
  })
}

function resolveSink (sink: CheckedSink): ResolvedSink {
  if (typeof sink === 'string') return { name: sink }
  if ('write' in sink) {
    if (typeof sink.write !== 'function') throw invalid('sink.write', 'must be a function')
    return { name: 'custom', sink }
  }
  if ('redis' in sink) return { name: 'redis', settings: { ...sink, maxRecords: Math.ceil(sink.maxRecords) } }
  const { retention, ...settings } = sink
  return { name: 'file', settings, retentionSeconds: retention?.maxAgeSeconds ?? null }
}

function resolveCheckpoints (
  checkpoints: CheckedCheckpoints | undefined,
  sink: ResolvedSink
): ResolvedAuditOptions['checkpoints'] {
  if (checkpoints === undefined) return null
  const { key, file, onCheckpoint = null, everySeconds, everyEvents } = checkpoints
  const resumes =
    sink.name === 'file' || sink.name === 'redis' || (sink.name === 'custom' && sink.sink.resume !== undefined)
  if (file !== undefined && !resumes) {
    const problem = 'needs a sink whose chain continues after a restart; use checkpoints.onCheckpoint instead'
    throw invalid('checkpoints.file', problem)
  }
  const path = file ?? (sink.name === 'file' ? checkpointsFileOf(sink.settings.file) : null)
  if (path === null && onCheckpoint === null) {
    throw invalid('checkpoints', 'must say where checkpoints are stored: checkpoints.file or checkpoints.onCheckpoint')
  }
  return { key: privateKeyOf(key)!, file: path, onCheckpoint, everySeconds, everyEvents }
}

/**
 * Null for anything but an Ed25519 private key. Does not say why a key cannot be read: the reason may quote the key.
 */
function privateKeyOf (key: unknown): KeyObject | null {
  try {
    const object = typeof key === 'string' ? createPrivateKey(key) : key as KeyObject | null
    return object?.type === 'private' && object.asymmetricKeyType === 'ed25519' ? object : null
  } catch {
    return null
  }
}

function isScriptClient (value: unknown): boolean {
  const client = value as Partial<RedisSinkOptions['redis']> | null
  return typeof client?.evalsha === 'function' && typeof client.eval === 'function'
}

function invalid (field: string, problem: string): Error {
  return optionsInvalid(SCOPE, [{ field, problem }])
}

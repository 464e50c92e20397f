import type { PathConf } from './client.js'

/** Prefix of every path of this service. Other paths are never changed. */
export const PATH_PREFIX = 'cs/'

export function pathOf (cameraId: string): string {
  return PATH_PREFIX + cameraId
}

export function cameraOf (path: string): string | null {
  return path.startsWith(PATH_PREFIX) ? path.slice(PATH_PREFIX.length) : null
}

/** Recording settings of a path. */
export interface RecordSpec {
  /** Folder for the segments of this recording only. */
  readonly folder: string
}

/** The desired state of one camera's path in MediaMTX. */
export interface PathSpec {
  readonly name: string
  /** URL that MediaMTX pulls, or null when this service publishes the stream. */
  readonly source: string | null
  readonly record: RecordSpec | null
}

/** The path configuration for a spec, with only the fields that this service owns. */
export function confOf (spec: PathSpec): PathConf {
  return {
    source: spec.source ?? 'publisher',
    ...(spec.source?.startsWith('rtsp') === true ? { rtspTransport: 'tcp' } : {}),
    overridePublisher: true,
    ...recordConfOf(spec.record)
  }
}

/** The recording fields. They can be patched without disturbing readers. */
export function recordConfOf (record: RecordSpec | null): PathConf {
  if (record === null) return { record: false }
  return {
    record: true,
    recordPath: `${record.folder}/%path/%s-%f`,
    recordFormat: 'fmp4',
    recordPartDuration: '1s',
    recordSegmentDuration: '24h',
    recordDeleteAfter: '0s'
  }
}

/** The change that brings the actual configuration to the desired one. */
export type PathChange = 'none' | 'record' | 'replace'

export function compare (wanted: PathSpec, actual: PathConf | undefined): PathChange {
  if (actual === undefined) return 'replace'
  const hot = recordConfOf(wanted.record)
  const conf = confOf(wanted)
  if (Object.keys(conf).some(key => !(key in hot) && !same(conf[key], actual[key]))) return 'replace'
  return Object.keys(hot).some(key => !same(hot[key], actual[key])) ? 'record' : 'none'
}

/**
 * Compares durations by value. MediaMTX returns `24h` as `1d` and `0s` as an empty string, so comparing the strings
 * would replace the path at every pass.
 */
function same (wanted: unknown, actual: unknown): boolean {
  if (wanted === actual) return true
  if (typeof wanted !== 'string' || typeof actual !== 'string') return false
  const seconds = durationSeconds(wanted)
  return seconds !== null && seconds === durationSeconds(actual)
}

const UNITS: Readonly<Record<string, number>> = { d: 86_400, h: 3600, m: 60, s: 1, ms: 0.001 }

/** Converts a MediaMTX duration (`1d`, `1h0m0s`, `` for zero) to seconds; null for other strings. */
export function durationSeconds (text: string): number | null {
  if (text === '') return 0
  if (!/^(\d+(\.\d+)?(d|h|ms|m|s))+$/.test(text)) return null
  let total = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(d|h|ms|m|s)/g)) total += Number(amount) * UNITS[unit!]!
  return total
}

import type { PathConf } from './client.js'

/** Every path of this service lives below this prefix; others are never touched. */
export const PATH_PREFIX = 'cs/'

export function pathOf (cameraId: string): string {
  return PATH_PREFIX + cameraId
}

export function cameraOf (path: string): string | null {
  return path.startsWith(PATH_PREFIX) ? path.slice(PATH_PREFIX.length) : null
}

/** What a recording asks of its path. */
export interface RecordSpec {
  /** Folder of its own for this recording's segments. */
  readonly folder: string
}

/** What one camera should look like in MediaMTX. */
export interface PathSpec {
  readonly name: string
  /** URL that MediaMTX pulls, or null when this service publishes. */
  readonly source: string | null
  readonly record: RecordSpec | null
}

/** The path configuration of a spec: only the fields this service owns. */
export function confOf (spec: PathSpec): PathConf {
  return {
    source: spec.source ?? 'publisher',
    ...(spec.source?.startsWith('rtsp') === true ? { rtspTransport: 'tcp' } : {}),
    overridePublisher: true,
    ...recordConfOf(spec.record)
  }
}

/** The hot part: patching these fields does not disturb readers. */
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

/** How the actual configuration differs from what it should be. */
export type PathChange = 'none' | 'record' | 'replace'

export function compare (wanted: PathSpec, actual: PathConf | undefined): PathChange {
  if (actual === undefined) return 'replace'
  const hot = recordConfOf(wanted.record)
  const conf = confOf(wanted)
  if (Object.keys(conf).some(key => !(key in hot) && !same(conf[key], actual[key]))) return 'replace'
  return Object.keys(hot).some(key => !same(hot[key], actual[key])) ? 'record' : 'none'
}

/** MediaMTX writes back `24h` as `1d`, `0s` as an empty string: comparing the text would replace for ever. */
function same (wanted: unknown, actual: unknown): boolean {
  if (wanted === actual) return true
  if (typeof wanted !== 'string' || typeof actual !== 'string') return false
  const seconds = durationSeconds(wanted)
  return seconds !== null && seconds === durationSeconds(actual)
}

const UNITS: Readonly<Record<string, number>> = { d: 86_400, h: 3600, m: 60, s: 1, ms: 0.001 }

/** Seconds of a MediaMTX duration (`1d`, `1h0m0s`, `` for zero); null for other text. */
export function durationSeconds (text: string): number | null {
  if (text === '') return 0
  if (!/^(\d+(\.\d+)?(d|h|ms|m|s))+$/.test(text)) return null
  let total = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(d|h|ms|m|s)/g)) total += Number(amount) * UNITS[unit!]!
  return total
}

import type { Hash } from 'node:crypto'
import type { ChainHead } from './chain.js'
import { classify, OCSF_VERSION } from './ocsf.js'

/** What is missing or out of place before a gap marker. */
export interface Gap {
  /** Bytes between the record before and the marker, which are no record; 0 when only events were lost. */
  readonly tornBytes: number
  readonly tornSha256: string | null
  /** Events that were not written; null when the process ended without saying how many it still had. */
  readonly lostEvents: number | null
}

/** JSON of the record `audit.gap`: says in the chain itself that something is missing before it, and covers the bytes that are there instead. */
export function gapMarker ({ tornBytes, tornSha256, lostEvents }: Gap): string {
  return ownRecord('audit.gap', 'failure', { torn_bytes: tornBytes, torn_sha256: tornSha256, lost_events: lostEvents })
}

export function isGap (record: Readonly<Record<string, unknown>>): boolean {
  return record['activity_name'] === 'audit.gap'
}

/** Whether a record is the marker for exactly these bytes. */
export function marksGap (record: Readonly<Record<string, unknown>>, bytes: number, sha256: Hash): boolean {
  return isGap(record) && record['torn_bytes'] === bytes && record['torn_sha256'] === sha256.copy().digest('hex')
}

/** What was deleted because it was older than it had to be kept. */
export interface Pruned {
  readonly firstSeq: number
  /** The last record deleted: the log now begins with the one after it. */
  readonly last: ChainHead
}

/** JSON of the record `audit.prune`, written before anything is deleted. */
export function pruneRecord ({ firstSeq, last }: Pruned): string {
  return ownRecord('audit.prune', 'success', { first_seq: firstSeq, last_seq: last.seq, last_hash: last.hash })
}

/** Whether a record tells that everything before the record after `start` was deleted on purpose. */
export function provesStart (record: Readonly<Record<string, unknown>>, start: ChainHead): boolean {
  if (record['activity_name'] !== 'audit.prune') return false
  // A later part may still be there when the process ended while it deleted.
  return Number(record['last_seq']) > start.seq || (record['last_seq'] === start.seq && record['last_hash'] === start.hash)
}

/** The record that an orderly end leaves last. */
export function isOrderlyEnd (record: Readonly<Record<string, unknown>>): boolean {
  return record['activity_name'] === 'service.stop'
}

function ownRecord (action: string, outcome: 'success' | 'failure', members: Readonly<Record<string, unknown>>): string {
  const now = new Date()
  return JSON.stringify({ time: now.getTime(), time_dt: now.toISOString(), ...classify('log', action, outcome, action), metadata: { version: OCSF_VERSION }, ...members })
}

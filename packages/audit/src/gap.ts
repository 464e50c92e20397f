import { createHash } from 'node:crypto'

/** Says in the chain itself that something is missing before it, and covers the bytes that are there instead. */
export interface GapMarker {
  readonly time: string
  readonly class_name: 'Audit Gap'
  readonly activity_name: 'audit.gap'
  /** Bytes between the record before and this one, which are no record; 0 when only events were lost. */
  readonly torn_bytes: number
  readonly torn_sha256: string | null
  /** Events that are known not to have been written. */
  readonly lost_events: number
}

export function gapMarker (torn: Buffer, lostEvents: number): GapMarker {
  return {
    time: new Date().toISOString(),
    class_name: 'Audit Gap',
    activity_name: 'audit.gap',
    torn_bytes: torn.length,
    torn_sha256: torn.length === 0 ? null : createHash('sha256').update(torn).digest('hex'),
    lost_events: lostEvents
  }
}

/** Whether a record is the marker for exactly these bytes. */
export function marksGap (record: Readonly<Record<string, unknown>>, torn: Buffer): boolean {
  return record['activity_name'] === 'audit.gap' && record['torn_bytes'] === torn.length &&
    record['torn_sha256'] === createHash('sha256').update(torn).digest('hex')
}

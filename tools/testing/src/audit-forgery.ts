import { createHash } from 'node:crypto'

/** A record that follows another, with a valid hash. Anyone who can write the file can create such a record. */
export function forged (members: object, before: string | null): string {
  const { seq, hash } = before === null ? { seq: 0, hash: '0'.repeat(64) } : JSON.parse(before) as { seq: number, hash: string }
  const body = JSON.stringify({ seq: seq + 1, time: Date.now(), ...members, prev: hash })
  return `${body.slice(0, -1)},"hash":"${createHash('sha256').update(`${hash}\n${body}`).digest('hex')}"}`
}

/** Members of forged records of kinds that the log itself writes. */
export const forgedEvent = { activity_name: 'forged.act', class_uid: 6003 }
export const forgedStop = { activity_name: 'service.stop', class_uid: 6002 }
export const forgedStart = { activity_name: 'service.start', class_uid: 6002 }
export const forgedGap = { activity_name: 'audit.gap', class_uid: 1008, torn_bytes: 0, torn_sha256: null, lost_events: null }
export const forgedPrune = (firstKept: string): object => {
  const { seq, prev } = JSON.parse(firstKept) as { seq: number, prev: string }
  return { activity_name: 'audit.prune', class_uid: 1008, first_seq: 1, last_seq: seq - 1, last_hash: prev }
}

/** Forged records that follow each other. */
export function chainOf (before: string, ...members: readonly object[]): string[] {
  const lines: string[] = []
  for (const one of members) lines.push(forged(one, lines.at(-1) ?? before))
  return lines
}

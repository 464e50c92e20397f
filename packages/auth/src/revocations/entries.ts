import { hash } from 'node:crypto'
import { AuthCapacityExceeded } from '../errors.js'
import { createSweep } from '../sweep.js'

export type RevocationKind = 'token' | 'family' | 'subject' | 'issuer-session'

/** One revocation, by a name that tells nobody what it is of. */
export interface RevocationRecord {
  readonly member: string
  /** When nothing it could refuse is valid any longer. Milliseconds since the epoch. */
  readonly until: number
  /**
   * Of a subject or a session at another issuer: tokens issued in this second or before are refused. Seconds since the
   * epoch; 0 for other kinds.
   */
  readonly epoch: number
}

export interface RevocationEntry extends RevocationRecord {
  /** Of the shared log that is known to hold this entry; null for none. */
  lineage: string | null
}

/** The revocations that this process knows. */
export interface RevocationEntries {
  readonly size: number
  /** Undefined for anything that is not a text, too: claims are what somebody signed. */
  find (kind: RevocationKind, name: unknown): RevocationEntry | undefined
  /** Adds a revocation made here. Throws `MARTY_AUTH_CAPACITY_EXCEEDED` rather than forget another. */
  add (kind: RevocationKind, name: string, until: number, epoch: number): RevocationEntry
  /** Takes over a revocation from the log, full or not. */
  merge (record: RevocationRecord, lineage: string | null): RevocationEntry
  /** Those that still matter. May be read slowly, while others are added. */
  live (): IterableIterator<RevocationEntry>
  /** Looks at some entries, and drops those that are over. */
  sweep (steps: number): void
}

export function createRevocationEntries (max: number, clock: () => number): RevocationEntries {
  const entries = new Map<string, RevocationEntry>()
  /** Kinds ever seen: nobody pays for the hash of a name that cannot be there. */
  const seen = new Set<string>()
  const sweep = createSweep(entries, ({ until }) => until <= clock())

  const merge: RevocationEntries['merge'] = (record, lineage) => {
    const { member } = record
    const known = entries.get(member)
    const until = Math.max(record.until, known?.until ?? 0)
    const epoch = Math.max(record.epoch, known?.epoch ?? 0)
    const isWhole = record.until === until && record.epoch === epoch
    if (known?.until === until && known.epoch === epoch && !isWhole) return known
    // Where each is later in one respect, no log is known to hold the sum.
    const entry = { member, until, epoch, lineage: isWhole ? lineage : null }
    entries.set(member, entry)
    seen.add(member[0]!)
    return entry
  }

  return {
    get size () {
      return entries.size
    },
    find: (kind, name) =>
      seen.has(kind[0]!) && typeof name === 'string' ? entries.get(memberOf(kind, name)) : undefined,
    add (kind, name, until, epoch) {
      const member = memberOf(kind, name)
      sweep(entries.size < max ? 100 : 10_000)
      if (entries.size >= max && !entries.has(member)) {
        throw new AuthCapacityExceeded({ headers: { 'retry-after': '60' } })
      }
      return merge({ member, until, epoch }, null)
    },
    merge,
    * live () {
      for (const entry of entries.values()) if (entry.until > clock()) yield entry
    },
    sweep
  }
}

/** Names may come from strangers: what is kept of them has a fixed length and form. */
function memberOf (kind: RevocationKind, name: string): string {
  return kind[0]! + hash('sha256', name, 'base64url').slice(0, 22)
}

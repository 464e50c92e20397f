import { hash } from 'node:crypto'
import { AuthCapacityExceeded } from '../errors.js'
import { createSweep } from '../sweep.js'

export type RevocationKind = 'token' | 'family' | 'subject' | 'issuer-session'

/** A revocation. Its member is a hash and does not reveal what was revoked. */
export interface RevocationRecord {
  readonly member: string
  /** When everything it could refuse has expired. Milliseconds since the epoch. */
  readonly until: number
  /**
   * For a subject or a session at another issuer: tokens issued in this second or before are refused.
   * Seconds since the epoch; 0 for other kinds.
   */
  readonly epoch: number
}

export interface RevocationEntry extends RevocationRecord {
  /** Lineage of the shared log that is known to contain this entry; null for none. */
  lineage: string | null
}

/** The revocations known to this process. */
export interface RevocationEntries {
  readonly size: number
  /**
   * Finds a revocation. Also undefined when the name is not a string, because the types of claims are
   * not guaranteed.
   */
  find (kind: RevocationKind, name: unknown): RevocationEntry | undefined
  /**
   * Adds a revocation made in this process. When full, throws `MARTY_AUTH_CAPACITY_EXCEEDED` instead of
   * dropping another.
   */
  add (kind: RevocationKind, name: string, until: number, epoch: number): RevocationEntry
  /** Adds a revocation from the log, even when full. */
  merge (record: RevocationRecord, lineage: string | null): RevocationEntry
  /** Iterates over the entries that have not expired. Entries may be added during the iteration. */
  live (): IterableIterator<RevocationEntry>
  /** Checks some entries, and removes expired ones. */
  sweep (steps: number): void
}

export function createRevocationEntries (max: number, clock: () => number): RevocationEntries {
  const entries = new Map<string, RevocationEntry>()
  /** Kinds that ever had an entry. For other kinds, no name needs to be hashed. */
  const seen = new Set<string>()
  const sweep = createSweep(entries, ({ until }) => until <= clock())

  const merge: RevocationEntries['merge'] = (record, lineage) => {
    const { member } = record
    const known = entries.get(member)
    const until = Math.max(record.until, known?.until ?? 0)
    const epoch = Math.max(record.epoch, known?.epoch ?? 0)
    const isWhole = record.until === until && record.epoch === epoch
    if (known?.until === until && known.epoch === epoch && !isWhole) return known
    // If each record is later in one respect, the entry combines both, and no log is known to contain it.
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

/** Hashes a name, which may be untrusted input, to a fixed length and form. */
function memberOf (kind: RevocationKind, name: string): string {
  return kind[0]! + hash('sha256', name, 'base64url').slice(0, 22)
}

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
  readonly issuedUntil: number
}

export interface RevocationEntry extends RevocationRecord {
  /** Epoch of the shared log that is known to contain this entry; null for none. */
  logEpoch: string | null
}

const SWEEP_STEPS = 100
const SWEEP_STEPS_WHEN_FULL = 10_000

/** The revocations known to this process. */
export class RevocationEntries {
  readonly #max: number
  readonly #clock: () => number
  readonly #entries = new Map<string, RevocationEntry>()
  /** Kinds that ever had an entry. For other kinds, no name needs to be hashed. */
  readonly #seenKinds = new Set<string>()
  /** Checks some entries, and removes expired ones. */
  readonly sweep: (steps: number) => void

  constructor (max: number, clock: () => number) {
    this.#max = max
    this.#clock = clock
    this.sweep = createSweep(this.#entries, ({ until }) => until <= clock())
  }

  get size (): number {
    return this.#entries.size
  }

  /**
   * Finds a revocation. Also undefined when the name is not a string, because the types of claims are
   * not guaranteed.
   */
  find (kind: RevocationKind, name: unknown): RevocationEntry | undefined {
    return this.#seenKinds.has(kind[0]!) && typeof name === 'string'
      ? this.#entries.get(memberOf(kind, name))
      : undefined
  }

  /**
   * Adds a revocation made in this process. When full, throws `MARTY_AUTH_CAPACITY_EXCEEDED` instead of
   * dropping another.
   */
  add (kind: RevocationKind, name: string, until: number, issuedUntil: number): RevocationEntry {
    const member = memberOf(kind, name)
    this.sweep(this.#entries.size < this.#max ? SWEEP_STEPS : SWEEP_STEPS_WHEN_FULL)
    if (this.#entries.size >= this.#max && !this.#entries.has(member)) {
      throw new AuthCapacityExceeded({ headers: { 'retry-after': '60' } })
    }
    return this.merge({ member, until, issuedUntil }, null)
  }

  /** Adds a revocation from the log, even when full. */
  merge (record: RevocationRecord, logEpoch: string | null): RevocationEntry {
    const { member } = record
    const known = this.#entries.get(member)
    const until = Math.max(record.until, known?.until ?? 0)
    const issuedUntil = Math.max(record.issuedUntil, known?.issuedUntil ?? 0)
    const isWhole = record.until === until && record.issuedUntil === issuedUntil
    if (known?.until === until && known.issuedUntil === issuedUntil && !isWhole) return known
    // If each record is later in one respect, the entry combines both, and no log is known to contain it.
    const entry = { member, until, issuedUntil, logEpoch: isWhole ? logEpoch : null }
    this.#entries.set(member, entry)
    this.#seenKinds.add(member[0]!)
    return entry
  }

  /** Iterates over the entries that have not expired. Entries may be added during the iteration. */
  * live (): IterableIterator<RevocationEntry> {
    for (const entry of this.#entries.values()) if (entry.until > this.#clock()) yield entry
  }
}

/** Hashes a name, which may be untrusted input, to a fixed length and form. */
function memberOf (kind: RevocationKind, name: string): string {
  return kind[0]! + hash('sha256', name, 'base64url').slice(0, 22)
}

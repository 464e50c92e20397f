import { setTimeout as delay } from 'node:timers/promises'
import { AuthStoreUnavailable, CredentialRequestInvalid } from '../errors.js'
import { RevocationEntries, type RevocationEntry, type RevocationKind } from './entries.js'
import { createRevocationLog, type RevocationLog } from './redis-log.js'
import type { ResolvedAuthStore } from '../store-options.js'

/**
 * The input of `isRevoked`: the claims of a token, or their equivalent. Times are seconds since the
 * epoch.
 */
export interface RevocableClaims {
  readonly jti?: string
  readonly sub: string
  readonly iat: number
  /** The family of refresh tokens that the token belongs to. */
  readonly sid?: string | undefined
  /**
   * The session at another issuer that the token belongs to, by a name that no other issuer, subject or
   * family can have.
   */
  readonly issuerSession?: string | undefined
  /** The `jti` of the token that it was exchanged for. It ends with that token. */
  readonly sourceJti?: string | undefined
}

export interface RevocationsHealth {
  /**
   * `degraded`: the store does not respond, or memory is full, but answers are still reliable;
   * `unhealthy`: `isRevoked` throws.
   */
  readonly status: 'healthy' | 'degraded' | 'unhealthy'
  readonly details: {
    readonly entries: number
    readonly maxEntries: number
    /** Seconds since all revocations of other replicas were known; null when they never were. */
    readonly ageSeconds: number | null
  }
}

/**
 * Credentials that are refused before they expire. Every replica holds all revocations in memory, so a
 * check needs no I/O. A revocation takes effect in this process immediately, even when its promise rejects
 * with `MARTY_AUTH_STORE_UNAVAILABLE`. When the promise resolves, all replicas know of it within a
 * second, and it survives a loss of the store's data as long as one replica runs.
 * When memory is full, rejects with `MARTY_AUTH_CAPACITY_EXCEEDED` instead of dropping another
 * revocation.
 */
export interface Revocations {
  /** Revokes one token. `expiresAt` is when it expires anyway. Milliseconds since the epoch. */
  revokeToken (jti: string, expiresAt: number): Promise<void>
  /**
   * Revokes every access token of a family. `expiresAt` is when the last one expires anyway, in
   * milliseconds since the epoch.
   * @default now and `maxLifetimeSeconds`
   */
  revokeFamily (sid: string, expiresAt?: number): Promise<void>
  /**
   * Revokes every token of a session at another issuer that was issued up to now, or up to `issuedAt`
   * (seconds since the epoch) when the issuer's clock is ahead. A token that is issued later is
   * accepted, because it was requested after the revocation.
   */
  revokeIssuerSession (session: string, issuedAt: number): Promise<void>
  /**
   * Revokes every token of the subject that was issued up to now, by the clock of this process, in
   * whole seconds.
   */
  revokeSubject (subject: string): Promise<void>
  /**
   * Whether a token is revoked. Throws `MARTY_AUTH_STORE_UNAVAILABLE` when the revocations of other
   * replicas were not read for a minute, or never.
   */
  isRevoked (claims: RevocableClaims): boolean
  /**
   * Returns the first second in which a new token of the subject is not already revoked; 0 for any.
   * Seconds since the epoch.
   */
  earliestIssue (subject: string): number
  /**
   * Starts to follow the store. Settles when all revocations are known, or after two seconds without a
   * response.
   */
  start (): Promise<void>
  close (): void
  health (): RevocationsHealth
}

export interface RevocationsOptions {
  /** The maximum lifetime of a token. Revocations are kept no longer. Seconds. */
  readonly maxLifetimeSeconds: number
  /**
   * The maximum lifetime of anything that is revoked by subject, such as a refresh token. Seconds.
   * @default maxLifetimeSeconds
   */
  readonly subjectLifetimeSeconds?: number
  /** @default 1_000_000 */
  readonly maxEntries?: number
  /** Called once when the store stops responding. */
  readonly onProblem?: (error: unknown) => void
  /** Milliseconds since the epoch. @default Date.now */
  readonly clock?: () => number
}

const POLL_MS = 250
const MAX_AGE_MS = 60_000
const START_MS = 2_000
const START_RETRY_MS = 50
/** `iat`, and therefore the expiry of a token, may be this far ahead of the local clock. */
const MAX_SKEW_MS = 30_000
/** Limits on what one poll writes back, so that new revocations of other replicas are not delayed. */
const BATCH = 500
const BATCHES_PER_POLL = 100
const MAX_EXAMINED = 5_000
const SWEEP_PER_POLL = 5_000

export function createRevocations (store: ResolvedAuthStore, options: RevocationsOptions): Revocations {
  return new ReplicatedRevocations(store === 'memory' ? null : createRevocationLog(store), options)
}

/** The revocations of this process and, with a log, of all replicas that share it. */
class ReplicatedRevocations implements Revocations {
  /** Null when revocations are not shared. */
  readonly #log: RevocationLog | null
  readonly #entries: RevocationEntries
  readonly #maxEntries: number
  readonly #tokenLifetimeMs: number
  readonly #subjectLifetimeMs: number
  readonly #onProblem: (error: unknown) => void
  readonly #clock: () => number
  /** Epoch of the log as last read. Another one means that the log has lost what was read before. */
  #epoch = ''
  /** Everything in the log up to this number has been read. */
  #seq = '0'
  /** When this process last knew all revocations; null when it never did. */
  #knownAt: number | null = null
  #isFailing = false
  /** Entries to write to a log that may lack them, because it did not respond or has lost its data. */
  #pendingWrites: Iterator<RevocationEntry> | null = null
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor (log: RevocationLog | null, options: RevocationsOptions) {
    const { maxLifetimeSeconds, subjectLifetimeSeconds = maxLifetimeSeconds, maxEntries = 1_000_000 } = options
    const { onProblem = () => {}, clock = Date.now } = options
    this.#log = log
    this.#entries = new RevocationEntries(maxEntries, clock)
    this.#maxEntries = maxEntries
    this.#tokenLifetimeMs = maxLifetimeSeconds * 1000 + MAX_SKEW_MS
    this.#subjectLifetimeMs = subjectLifetimeSeconds * 1000 + MAX_SKEW_MS
    this.#onProblem = onProblem
    this.#clock = clock
  }

  async revokeToken (jti: string, expiresAt: number): Promise<void> {
    await this.#revoke('token', jti, Math.min(expiresAt, this.#clock() + this.#tokenLifetimeMs), 0)
  }

  async revokeFamily (sid: string, expiresAt: number = Infinity): Promise<void> {
    await this.#revoke('family', sid, Math.min(expiresAt, this.#clock() + this.#tokenLifetimeMs), 0)
  }

  async revokeIssuerSession (session: string, issuedAt: number): Promise<void> {
    const now = this.#clock()
    await this.#revoke('issuer-session', session, now + this.#tokenLifetimeMs, Math.max(inSeconds(now), issuedAt))
  }

  async revokeSubject (subject: string): Promise<void> {
    const now = this.#clock()
    await this.#revoke('subject', subject, now + this.#subjectLifetimeMs, inSeconds(now))
  }

  isRevoked ({ jti, sub, iat, sid, issuerSession, sourceJti }: RevocableClaims): boolean {
    if (!this.#isKnown()) throw new AuthStoreUnavailable({ headers: { 'retry-after': '1' } })
    const entries = this.#entries
    if (entries.find('token', jti) !== undefined || entries.find('token', sourceJti) !== undefined) return true
    if (entries.find('family', sid) !== undefined) return true
    return iat <= (entries.find('subject', sub)?.issuedUntil ?? -1) ||
      iat <= (entries.find('issuer-session', issuerSession)?.issuedUntil ?? -1)
  }

  earliestIssue (subject: string): number {
    const entry = this.#entries.find('subject', subject)
    return entry === undefined ? 0 : entry.issuedUntil + 1
  }

  async start (): Promise<void> {
    if (this.#log === null) return
    const deadline = performance.now() + START_MS
    await this.#poll(this.#log)
    while (this.#knownAt === null && performance.now() < deadline) {
      await delay(START_RETRY_MS)
      if (this.#isClosed) return
      await this.#poll(this.#log)
    }
    this.#pollLater(this.#log)
  }

  close (): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
  }

  health (): RevocationsHealth {
    const ageMs = this.#ageMs()
    return {
      status: this.#status(),
      details: {
        entries: this.#entries.size,
        maxEntries: this.#maxEntries,
        ageSeconds: ageMs === null ? null : inSeconds(ageMs)
      }
    }
  }

  #status (): RevocationsHealth['status'] {
    if (!this.#isKnown()) return 'unhealthy'
    return this.#isFailing || this.#entries.size >= this.#maxEntries ? 'degraded' : 'healthy'
  }

  #isKnown (): boolean {
    const ageMs = this.#ageMs()
    return ageMs !== null && ageMs <= MAX_AGE_MS
  }

  #ageMs (): number | null {
    if (this.#log === null) return 0
    // A clock that is set back must not make old data fresh.
    return this.#knownAt === null ? null : Math.abs(this.#clock() - this.#knownAt)
  }

  async #revoke (kind: RevocationKind, name: string, until: number, issuedUntil: number): Promise<void> {
    // A time in seconds, by mistake, would look like an expired token, and nothing would be revoked.
    if (!Number.isFinite(until) || until < 1e11) {
      throw new CredentialRequestInvalid('"expiresAt" must be a time in milliseconds since the epoch')
    }
    if (until <= this.#clock()) return
    const entry = this.#entries.add(kind, name, Math.floor(until), issuedUntil)
    if (this.#log !== null) await this.#write(this.#log, [entry])
  }

  async #write (log: RevocationLog, entries: readonly RevocationEntry[]): Promise<void> {
    try {
      const epoch = await log.append(entries)
      for (const entry of entries) entry.logEpoch = epoch
    } catch (error) {
      this.#pendingWrites = this.#entries.live()
      throw error
    }
  }

  #pollLater (log: RevocationLog): void {
    if (this.#isClosed) return
    this.#timer = setTimeout(() => { void this.#poll(log).then(() => { this.#pollLater(log) }) }, POLL_MS).unref()
  }

  async #poll (log: RevocationLog): Promise<void> {
    try {
      await this.#readNew(log)
      await this.#writePending(log)
      this.#isFailing = false
    } catch (error) {
      if (!this.#isFailing) this.#onProblem(error)
      this.#isFailing = true
    }
    this.#entries.sweep(SWEEP_PER_POLL)
  }

  async #readNew (log: RevocationLog): Promise<void> {
    const startedAt = this.#clock()
    for (let isLast = false; !isLast;) {
      const page = await log.read(this.#epoch, this.#seq)
      if (page.epoch !== this.#epoch) this.#pendingWrites = this.#entries.live()
      this.#epoch = page.epoch
      this.#seq = page.seq
      isLast = page.isLast
      for (const record of page.records) this.#entries.merge(record, page.epoch)
    }
    this.#knownAt = startedAt
  }

  /** Writes entries that the log is not known to contain: as many as one poll may. */
  async #writePending (log: RevocationLog): Promise<void> {
    for (let batches = 0; this.#pendingWrites !== null && batches < BATCHES_PER_POLL; batches++) {
      const batch = this.#nextPending(this.#pendingWrites)
      if (batch.length > 0) await this.#write(log, batch)
    }
  }

  #nextPending (entries: Iterator<RevocationEntry>): readonly RevocationEntry[] {
    const batch: RevocationEntry[] = []
    for (let examined = 0; examined < MAX_EXAMINED && batch.length < BATCH; examined++) {
      const { value, done } = entries.next()
      if (done === true) {
        this.#pendingWrites = null
        break
      }
      if (value.logEpoch !== this.#epoch) batch.push(value)
    }
    return batch
  }
}

function inSeconds (ms: number): number {
  return Math.floor(ms / 1000)
}

import { setTimeout as delay } from 'node:timers/promises'
import { AuthStoreUnavailable, CredentialRequestInvalid } from '../errors.js'
import { createRevocationEntries, type RevocationEntry, type RevocationKind } from './entries.js'
import { createRevocationLog } from './redis-log.js'
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
 * check needs no I/O. A revocation takes effect in this process at once, even when its promise rejects
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
/** `iat`, and therefore the expiry of a token, may be this far ahead of the local clock. */
const MAX_SKEW_MS = 30_000
/** Limits on what one poll writes back, so that new revocations of other replicas are not delayed. */
const BATCH = 500
const BATCHES_PER_POLL = 100
const MAX_LOOKS = 5_000

export function createRevocations (store: ResolvedAuthStore, options: RevocationsOptions): Revocations {
  const {
    maxLifetimeSeconds,
    subjectLifetimeSeconds = maxLifetimeSeconds,
    maxEntries = 1_000_000,
    onProblem = () => {},
    clock = Date.now
  } = options
  const entries = createRevocationEntries(maxEntries, clock)
  const log = store === 'memory' ? null : createRevocationLog(store)
  let lineage = ''
  let seq = '0'
  /** When this process last knew all revocations; null when it never did. */
  let knownAt: number | null = null
  let isFailing = false
  /** Entries to write to a log that may lack them, because it did not respond or has lost its data. */
  let owed: Iterator<RevocationEntry> | null = null
  let timer: NodeJS.Timeout | undefined
  let isClosed = false

  function ageMs (): number | null {
    if (log === null) return 0
    // A clock that is set back must not make old data fresh.
    return knownAt === null ? null : Math.abs(clock() - knownAt)
  }

  function isKnown (): boolean {
    const age = ageMs()
    return age !== null && age <= MAX_AGE_MS
  }

  async function revoke (kind: RevocationKind, name: string, until: number, epoch: number): Promise<void> {
    const now = clock()
    // A time in seconds, by mistake, would look like an expired token, and nothing would be revoked.
    if (!Number.isFinite(until) || until < 1e11) {
      throw new CredentialRequestInvalid('"expiresAt" must be a time in milliseconds since the epoch')
    }
    if (until <= now) return
    const entry = entries.add(kind, name, Math.floor(until), epoch)
    if (log === null) return
    try {
      entry.lineage = await log.append([entry])
    } catch (error) {
      owed = entries.live()
      throw error
    }
  }

  async function follow (): Promise<void> {
    const began = clock()
    for (let isLast = false; !isLast;) {
      const page = await log!.read(lineage, seq)
      if (page.lineage !== lineage) owed = entries.live()
      ;({ lineage, seq, isLast } = page)
      for (const record of page.records) entries.merge(record, lineage)
    }
    knownAt = began
    for (let batches = 0; owed !== null && batches < BATCHES_PER_POLL; batches++) await writeOwed(owed)
  }

  /** Writes the next entries that the log is not known to contain. */
  async function writeOwed (source: Iterator<RevocationEntry>): Promise<void> {
    const batch: RevocationEntry[] = []
    for (let looked = 0; looked < MAX_LOOKS && batch.length < BATCH; looked++) {
      const { value, done } = source.next()
      if (done === true) {
        owed = null
        break
      }
      if (value.lineage !== lineage) batch.push(value)
    }
    if (batch.length === 0) return
    try {
      const written = await log!.append(batch)
      for (const entry of batch) entry.lineage = written
    } catch (error) {
      owed = entries.live()
      throw error
    }
  }

  async function poll (): Promise<void> {
    try {
      await follow()
      isFailing = false
    } catch (error) {
      if (!isFailing) onProblem(error)
      isFailing = true
    }
    entries.sweep(5_000)
  }

  function pollLater (): void {
    if (isClosed) return
    timer = setTimeout(() => { void poll().then(pollLater) }, POLL_MS).unref()
  }

  return {
    async revokeToken (jti, expiresAt) {
      await revoke('token', jti, Math.min(expiresAt, clock() + maxLifetimeSeconds * 1000 + MAX_SKEW_MS), 0)
    },
    async revokeFamily (sid, expiresAt = Infinity) {
      await revoke('family', sid, Math.min(expiresAt, clock() + maxLifetimeSeconds * 1000 + MAX_SKEW_MS), 0)
    },
    async revokeIssuerSession (session, issuedAt) {
      const now = clock()
      const epoch = Math.max(Math.floor(now / 1000), issuedAt)
      await revoke('issuer-session', session, now + maxLifetimeSeconds * 1000 + MAX_SKEW_MS, epoch)
    },
    async revokeSubject (subject) {
      await revoke(
        'subject',
        subject,
        clock() + subjectLifetimeSeconds * 1000 + MAX_SKEW_MS,
        Math.floor(clock() / 1000)
      )
    },
    isRevoked ({ jti, sub, iat, sid, issuerSession, sourceJti }) {
      if (!isKnown()) throw new AuthStoreUnavailable({ headers: { 'retry-after': '1' } })
      if (entries.find('token', jti) !== undefined || entries.find('token', sourceJti) !== undefined) return true
      if (entries.find('family', sid) !== undefined) return true
      return iat <= (entries.find('subject', sub)?.epoch ?? -1) ||
        iat <= (entries.find('issuer-session', issuerSession)?.epoch ?? -1)
    },
    earliestIssue (subject) {
      const entry = entries.find('subject', subject)
      return entry === undefined ? 0 : entry.epoch + 1
    },
    async start () {
      if (log === null) return
      const end = performance.now() + START_MS
      await poll()
      while (ageMs() === null && performance.now() < end) {
        await delay(50)
        if (isClosed) return
        await poll()
      }
      pollLater()
    },
    close () {
      isClosed = true
      clearTimeout(timer)
    },
    health () {
      const age = ageMs()
      return {
        status: !isKnown() ? 'unhealthy' : isFailing || entries.size >= maxEntries ? 'degraded' : 'healthy',
        details: { entries: entries.size, maxEntries, ageSeconds: age === null ? null : Math.floor(age / 1000) }
      }
    }
  }
}

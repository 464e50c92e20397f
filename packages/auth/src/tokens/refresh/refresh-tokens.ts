import { CredentialInvalid, type Principal } from '@marty/core'
import { createHmac, hash, randomBytes } from 'node:crypto'
import { MAX_PER_SUBJECT, type ResolvedRefreshOptions } from './options.js'
import { createMemoryRefreshStore } from './memory-store.js'
import { createRedisRefreshStore } from './redis-store.js'
import type { RefreshLimits, RefreshStore } from './store.js'
import type { Revocations } from '../../revocations/revocations.js'
import type { ResolvedAuthStore } from '../../store-options.js'

/** What a family of refresh tokens may be exchanged for. Kept as JSON. */
export interface RefreshGrant {
  readonly subject: string
  readonly kind: 'user' | 'service'
  readonly roles: readonly string[]
  readonly scopes: readonly string[]
  readonly clientId?: string
  /** Who signed in and how, to be asked at each refresh whether it is still alive. */
  readonly source: Principal
}

export interface IssuedRefreshToken {
  /** `ref_`, 22 characters that are its family's for good, and 256 bits that are good once; kept nowhere. */
  readonly token: string
  /** The family's public name, for the `sid` of access tokens. Whoever knows it can do nothing with it. */
  readonly sid: string
  /** When the token ends unless it is used. Milliseconds since the epoch. */
  readonly expiresAt: number
}

export interface RotatedRefreshToken extends IssuedRefreshToken {
  readonly grant: RefreshGrant
  /** The token was presented again, within its grace, and its one successor is given again. */
  readonly replayed: boolean
}

/** Every function rejects with `MARTY_AUTH_STORE_UNAVAILABLE` when the store does not answer; all may be repeated. */
export interface RefreshTokens {
  /**
   * Begins a family, which ends with its source at the latest. Beyond `maxPerSubject`, the one that its subject used longest
   * ago is removed: its refresh token is refused from then on, its access token lives out its few minutes. Rejects with
   * `MARTY_AUTH_CAPACITY_EXCEEDED` when no more can be held in memory and the subject has none to give up.
   */
  issue(grant: RefreshGrant): Promise<IssuedRefreshToken>
  /** Uses a token up and gives its successor. Rejects with `MARTY_CORE_CREDENTIAL_INVALID` whatever is wrong. */
  rotate(token: string): Promise<RotatedRefreshToken>
  /**
   * Ends the family of a token, used up or not, and its access tokens. The family part is enough: only holders know it.
   * Null for any other text.
   */
  revoke(token: string): Promise<{ readonly sid: string, readonly grant: RefreshGrant } | null>
  /** What the token could be exchanged for now, without using it; null when it could not. */
  inspect(
    token: string
  ): Promise<{ readonly sid: string, readonly grant: RefreshGrant, readonly expiresAt: number } | null>
  /** Ends a family, by its public name, and its access tokens. False when there was none. */
  revokeFamily(sid: string): Promise<boolean>
}

export interface RefreshTokensOptions extends Pick<
  ResolvedRefreshOptions,
  'secret' | 'idleSeconds' | 'absoluteSeconds' | 'graceSeconds'
> {
  readonly revocations: Revocations
  /** Told once for each family that ended because a token was used that had been used before: somebody else has it. */
  readonly onReuse: (sid: string, grant: RefreshGrant) => void
  /** Called for each family that was removed because its subject began another beyond `maxPerSubject`. */
  readonly onDisplaced?: (sid: string, grant: RefreshGrant) => void
  /** Families of one subject. @default 50 */
  readonly maxPerSubject?: number
  /** Families in this process, when they are kept in memory. @default 100_000 */
  readonly maxFamilies?: number
  /** Milliseconds since the epoch. @default Date.now */
  readonly clock?: () => number
}

const FORM = /^ref_([A-Za-z0-9_-]{22})([A-Za-z0-9_-]{43})$/
const SID = /^[A-Za-z0-9_-]{22}$/

/** Refresh tokens that are good once (RFC 9700 section 4.14.2): a stolen one gives itself away and ends its family. */
export function createRefreshTokens (store: ResolvedAuthStore, options: RefreshTokensOptions): RefreshTokens {
  const {
    secret,
    revocations,
    onReuse,
    onDisplaced = () => {},
    maxPerSubject = MAX_PER_SUBJECT,
    maxFamilies = 100_000,
    clock = Date.now
  } = options
  const limits: RefreshLimits = { ...options, maxPerSubject }
  const families: RefreshStore =
    store === 'memory' ? createMemoryRefreshStore(limits, maxFamilies, clock) : createRedisRefreshStore(store, limits)

  /** Whether the family may go on. `signedInAt` is by the clock of whoever revokes and issues access tokens, not by Redis's. */
  const isRevoked = (sid: string, { signedInAt, grant }: FamilyData): boolean =>
    revocations.isRevoked({ sub: grant.subject, iat: signedInAt, sid })

  /** For a family none of whose tokens is good any longer. It goes last: whoever is interrupted before finds it again. */
  async function finish (sid: string): Promise<boolean> {
    await revocations.revokeFamily(sid)
    return await families.remove(sid)
  }

  /** What the family was for; null when there was none. */
  async function end (sid: string): Promise<RefreshGrant | null> {
    const data = await families.end(sid)
    if (data === null) return null
    await finish(sid)
    return (JSON.parse(data) as FamilyData).grant
  }

  return {
    async issue (grant) {
      const family = randomBytes(16).toString('base64url')
      const ours = randomBytes(32).toString('base64url')
      const sid = digest(family).slice(0, 22)
      const data: FamilyData = {
        signedInAt: Math.max(Math.floor(clock() / 1000), revocations.earliestIssue(grant.subject)),
        grant
      }
      const owner = digest(`${grant.kind}:${grant.subject}`)
      const { expiresAt, displaced } = await families.create({
        sid, owner, current: digest(ours), data: JSON.stringify(data), notAfter: grant.source.expiresAt
      })
      for (const one of displaced) onDisplaced(one.sid, (JSON.parse(one.data) as FamilyData).grant)
      return { token: `ref_${family}${ours}`, sid, expiresAt }
    },

    async rotate (token) {
      const parts = parse(token)
      if (parts === null) throw new CredentialInvalid({ reason: 'form' })
      const { family, sid, presented } = parts
      // Throws when revocations are not known, before the token is used up for nothing.
      revocations.isRevoked({ sub: '', iat: Infinity })
      // Derived rather than random: a client that asks again is given the same successor, and no secret is kept for it.
      const successor = createHmac('sha256', secret).update(token).digest('base64url')
      const rotation = await families.rotate(sid, presented, digest(successor))
      if (rotation === null) throw new CredentialInvalid({ reason: 'family unknown' })
      const data = JSON.parse(rotation.data) as FamilyData
      if (rotation.outcome === 'reused' || rotation.outcome === 'revoked') {
        const isFirst = await finish(sid)
        if (isFirst && rotation.outcome === 'reused') onReuse(sid, data.grant)
        throw new CredentialInvalid({ reason: rotation.outcome })
      }
      if (isRevoked(sid, data)) {
        await end(sid)
        throw new CredentialInvalid({ reason: 'revoked' })
      }
      return {
        token: `ref_${family}${successor}`,
        sid,
        grant: data.grant,
        expiresAt: rotation.expiresAt,
        replayed: rotation.outcome === 'replayed'
      }
    },

    async revoke (token) {
      const parts = parse(token)
      if (parts === null) return null
      const grant = await end(parts.sid)
      return grant === null ? null : { sid: parts.sid, grant }
    },

    async inspect (token) {
      const parts = parse(token)
      if (parts === null) return null
      const family = await families.read(parts.sid)
      if (family === null || family.isEnded || family.current !== parts.presented) return null
      const data = JSON.parse(family.data) as FamilyData
      return isRevoked(parts.sid, data) ? null : { sid: parts.sid, grant: data.grant, expiresAt: family.expiresAt }
    },

    revokeFamily: async sid => SID.test(sid) && await end(sid) !== null
  }
}

interface FamilyData {
  /** Seconds since the epoch. */
  readonly signedInAt: number
  readonly grant: RefreshGrant
}

/** The parts of a well-formed token; null for any other text. */
function parse (token: string): { readonly family: string, readonly sid: string, readonly presented: string } | null {
  const parts = typeof token === 'string' ? FORM.exec(token) : null
  return parts === null
    ? null
    : { family: parts[1]!, sid: digest(parts[1]!).slice(0, 22), presented: digest(parts[2]!) }
}

function digest (text: string): string {
  return hash('sha256', text, 'base64url')
}

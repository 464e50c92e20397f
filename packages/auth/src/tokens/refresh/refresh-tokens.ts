import { CredentialInvalid, type Principal } from '@marty/core'
import { createHmac, hash, randomBytes } from 'node:crypto'
import { MAX_PER_SUBJECT, type ResolvedRefreshOptions } from './options.js'
import { createMemoryRefreshStore } from './memory-store.js'
import { createRedisRefreshStore } from './redis-store.js'
import type { RefreshLimits, RefreshStore } from './store.js'
import type { Revocations } from '../../revocations/revocations.js'
import type { ResolvedAuthStore } from '../../store-options.js'

/** What the tokens of a family can be exchanged for. Stored as JSON. */
export interface RefreshGrant {
  readonly subject: string
  readonly kind: 'user' | 'service'
  readonly roles: readonly string[]
  readonly scopes: readonly string[]
  readonly clientId?: string
  /** The principal that signed in. Each refresh checks whether its credential is still valid. */
  readonly source: Principal
}

export interface IssuedRefreshToken {
  /**
   * `ref_`, 22 characters that identify the family and never change, and a single-use secret of 256
   * bits. Never stored.
   */
  readonly token: string
  /** The family's public name, used as the `sid` of access tokens. It is not a credential. */
  readonly sid: string
  /** When the token expires if it is not used. Milliseconds since the epoch. */
  readonly expiresAt: number
}

export interface RotatedRefreshToken extends IssuedRefreshToken {
  readonly grant: RefreshGrant
  /** True when the token was presented again within its grace period and received the same successor. */
  readonly replayed: boolean
}

/**
 * Every function rejects with `MARTY_AUTH_STORE_UNAVAILABLE` when the store does not respond. All
 * functions may be retried.
 */
export interface RefreshTokens {
  /**
   * Creates a family, which ends with its source at the latest. Beyond `maxPerSubject`, the subject's
   * least recently used family is removed: its refresh token is refused from then on, and its access
   * token stays valid until it expires a few minutes later. Rejects with `MARTY_AUTH_CAPACITY_EXCEEDED`
   * when memory is full and the subject has no family to replace.
   */
  issue(grant: RefreshGrant): Promise<IssuedRefreshToken>
  /**
   * Uses a token up and returns its successor. Rejects with `MARTY_CORE_CREDENTIAL_INVALID` whatever is
   * wrong.
   */
  rotate(token: string): Promise<RotatedRefreshToken>
  /**
   * Ends the family of a token, used or not, and its access tokens. The family part of the token is
   * sufficient, because only holders know it. Returns null for any other string.
   */
  revoke(token: string): Promise<{ readonly sid: string, readonly grant: RefreshGrant } | null>
  /** Returns what the token can be exchanged for now, without using it; null when it is not valid. */
  inspect(
    token: string
  ): Promise<{ readonly sid: string, readonly grant: RefreshGrant, readonly expiresAt: number } | null>
  /** Ends a family and its access tokens, by the family's public name. False when there was none. */
  revokeFamily(sid: string): Promise<boolean>
}

export interface RefreshTokensOptions extends Pick<
  ResolvedRefreshOptions,
  'secret' | 'idleSeconds' | 'absoluteSeconds' | 'graceSeconds'
> {
  readonly revocations: Pick<Revocations, 'isRevoked' | 'earliestIssue' | 'revokeFamily'>
  /**
   * Called once for each family that ended because a used token was presented again, which means that
   * it was stolen.
   */
  readonly onReuse: (sid: string, grant: RefreshGrant) => void
  /** Called for each family that was removed because its subject exceeded `maxPerSubject`. */
  readonly onDisplaced?: (sid: string, grant: RefreshGrant) => void
  /** Maximum number of families of one subject. @default 50 */
  readonly maxPerSubject?: number
  /** Maximum number of families in this process, when they are stored in memory. @default 100_000 */
  readonly maxFamilies?: number
  /** Milliseconds since the epoch. @default Date.now */
  readonly clock?: () => number
}

const TOKEN_FORMAT = /^ref_([A-Za-z0-9_-]{22})([A-Za-z0-9_-]{43})$/
const SID = /^[A-Za-z0-9_-]{22}$/

/**
 * Creates single-use refresh tokens (RFC 9700 section 4.14.2). When a stolen token is used, the reuse
 * is detected and its family ends.
 */
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

  /**
   * Whether the family is revoked. `signedInAt` is read from the clock that also dates revocations and
   * access tokens, not from that of Redis.
   */
  const isRevoked = (sid: string, { signedInAt, grant }: FamilyData): boolean =>
    revocations.isRevoked({ sub: grant.subject, iat: signedInAt, sid })

  /**
   * Removes a family that has no valid token left. It is removed last: if this is interrupted, the next
   * call finds it again.
   */
  async function removeFamily (sid: string): Promise<boolean> {
    await revocations.revokeFamily(sid)
    return await families.remove(sid)
  }

  /** Ends a family and returns its grant; null when there was none. */
  async function end (sid: string): Promise<RefreshGrant | null> {
    const data = await families.end(sid)
    if (data === null) return null
    await removeFamily(sid)
    return (JSON.parse(data) as FamilyData).grant
  }

  return {
    async issue (grant) {
      const family = randomBytes(16).toString('base64url')
      const tokenSecret = randomBytes(32).toString('base64url')
      const sid = digest(family).slice(0, 22)
      const data: FamilyData = {
        signedInAt: Math.max(Math.floor(clock() / 1000), revocations.earliestIssue(grant.subject)),
        grant
      }
      const owner = digest(`${grant.kind}:${grant.subject}`)
      const { expiresAt, displaced } = await families.create({
        sid, owner, current: digest(tokenSecret), data: JSON.stringify(data), notAfter: grant.source.expiresAt
      })
      for (const one of displaced) onDisplaced(one.sid, (JSON.parse(one.data) as FamilyData).grant)
      return { token: `ref_${family}${tokenSecret}`, sid, expiresAt }
    },

    async rotate (token) {
      const parts = parse(token)
      if (parts === null) throw new CredentialInvalid({ reason: 'form' })
      const { family, sid, presented } = parts
      // Throws when the revocations are unknown, before the token is used up in vain.
      revocations.isRevoked({ sub: '', iat: Infinity })
      // Derived, not random: a retry receives the same successor, and no secret needs to be stored for
      // it.
      const successor = createHmac('sha256', secret).update(token).digest('base64url')
      const rotation = await families.rotate(sid, presented, digest(successor))
      if (rotation === null) throw new CredentialInvalid({ reason: 'family unknown' })
      const data = JSON.parse(rotation.data) as FamilyData
      if (rotation.outcome === 'reused' || rotation.outcome === 'revoked') {
        const isFirst = await removeFamily(sid)
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

/** Returns the parts of a well-formed token; null for any other string. */
function parse (token: string): { readonly family: string, readonly sid: string, readonly presented: string } | null {
  const parts = typeof token === 'string' ? TOKEN_FORMAT.exec(token) : null
  return parts === null
    ? null
    : { family: parts[1]!, sid: digest(parts[1]!).slice(0, 22), presented: digest(parts[2]!) }
}

function digest (text: string): string {
  return hash('sha256', text, 'base64url')
}

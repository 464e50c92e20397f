import type { Principal } from '@marty/core'
import type { JsonObject } from './strict-json.js'

/** What a token must say, and within which bounds. Times are in seconds. */
export interface ClaimRules {
  readonly issuer: string
  readonly audience: string
  readonly clockSkewSeconds: number
  readonly maxLifetimeSeconds: number
}

/** Claims of an access token (RFC 7519, RFC 9068), times in seconds since the epoch. */
export interface TokenClaims {
  readonly iss: string
  readonly aud: string | readonly string[]
  readonly sub: string
  readonly exp: number
  readonly iat: number
  readonly jti: string
  /** The same as `sub`. */
  readonly user_id?: string
  readonly role?: string
  readonly roles?: readonly string[]
  /** OAuth scopes, separated by spaces. */
  readonly scope?: string
  readonly kind?: 'user' | 'service'
  /** The family of refresh tokens it belongs to; it is revoked with the family. */
  readonly sid?: string
  /** The API key it was issued for (RFC 9068 section 2.2); it dies with the key. */
  readonly client_id?: string
  readonly [claim: string]: unknown
}

const MAX_TEXT = 256
const MAX_ROLES = 32

/** The claims, or the name of the first one that is wrong. */
export function readClaims (payload: JsonObject, rules: ClaimRules, now: number): TokenClaims | string {
  const { iss, aud, sub, exp, iat, nbf, jti, user_id: userId, role, roles, scope, kind, sid, client_id: clientId } = payload
  if (iss !== rules.issuer) return 'iss'
  if (!isAudience(aud, rules.audience)) return 'aud'
  if (!isText(sub)) return 'sub'
  if (!isText(jti)) return 'jti'
  if (!isTime(exp)) return 'exp'
  if (!isTime(iat)) return 'iat'
  // Skew only helps tokens that seem to come from the future; an expiry is exact.
  if (exp <= now) return 'exp'
  if (iat > now + rules.clockSkewSeconds) return 'iat'
  if (exp <= iat || exp - iat > rules.maxLifetimeSeconds) return 'lifetime'
  if (nbf !== undefined && (!isTime(nbf) || nbf > now + rules.clockSkewSeconds)) return 'nbf'
  if (userId !== undefined && userId !== sub) return 'user_id'
  if (role !== undefined && !isText(role)) return 'role'
  if (roles !== undefined && !(Array.isArray(roles) && roles.length <= MAX_ROLES && roles.every(isText))) return 'roles'
  if (role !== undefined && roles !== undefined && !(roles as unknown[]).includes(role)) return 'roles'
  if (scope !== undefined && typeof scope !== 'string') return 'scope'
  if (sid !== undefined && !isText(sid)) return 'sid'
  if (clientId !== undefined && !isText(clientId)) return 'client_id'
  if (kind !== undefined && kind !== 'user' && kind !== 'service') return 'kind'
  return deepFreeze(payload) as unknown as TokenClaims
}

/** The principal a token stands for. */
export function principalOfClaims (claims: TokenClaims): Principal {
  return Object.freeze({
    id: claims.sub,
    kind: claims.kind ?? 'user',
    roles: claims.roles ?? (claims.role === undefined ? [] : Object.freeze([claims.role])),
    scopes: Object.freeze(claims.scope?.split(' ').filter(scope => scope !== '') ?? []),
    session: claims.jti,
    claims,
    authenticatedBy: 'jwt',
    expiresAt: claims.exp * 1000
  })
}

function isAudience (aud: unknown, audience: string): boolean {
  if (typeof aud === 'string') return aud === audience
  return Array.isArray(aud) && aud.every(one => typeof one === 'string') && aud.includes(audience)
}

function isText (value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= MAX_TEXT
}

function isTime (value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function deepFreeze (value: unknown): unknown {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member)
    Object.freeze(value)
  }
  return value
}

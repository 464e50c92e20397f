import type { Principal } from '@marty/core'
import type { RevocableClaims } from '../revocations/revocations.js'
import type { JsonObject } from './strict-json.js'

/** The claims a token must have, and their bounds. Times are in seconds. */
export interface ClaimRules {
  readonly issuer: string
  readonly audience: string
  readonly clockSkewSeconds: number
  readonly maxLifetimeSeconds: number
}

/** The same for tokens of a trusted issuer, which may differ in shape. */
export interface TrustedIssuerClaimRules extends ClaimRules {
  readonly audienceClaim: 'aud' | 'client_id'
  readonly requireJti: boolean
  readonly requiredClaims: ReadonlyArray<readonly [name: string, value: unknown]>
}

/**
 * Claims of a trusted issuer's token. Times are in seconds since the epoch. All other claims have the
 * meaning that the issuer gives them.
 */
export interface TrustedIssuerClaims {
  readonly iss: string
  readonly sub: string
  readonly exp: number
  readonly iat: number
  /** Undefined when the issuer sets none and `requireJti` is false. */
  readonly jti?: string
  readonly aud?: string | readonly string[]
  readonly [claim: string]: unknown
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
  /**
   * The session or family of refresh tokens that the token belongs to (OpenID Connect Back-Channel
   * Logout 1.0 section 2.1).
   */
  readonly sid?: string
  /** The client that requested the token (RFC 9068 section 2.2). */
  readonly client_id?: string
  /** The `jti` of the other issuer's token that this one was exchanged for. The token ends with it. */
  readonly source_jti?: string
  readonly [claim: string]: unknown
}

const MAX_STRING = 256
const MAX_ROLES = 32

/** Returns the claims of a token of this service, or the name of the first invalid claim. */
export function readClaims (payload: JsonObject, rules: ClaimRules, now: number): TokenClaims | string {
  const { aud, sub, jti, user_id: userId, role, roles, scope, kind } = payload
  const { sid, client_id: clientId, source_jti: sourceJti } = payload
  const invalid = invalidRegisteredClaim(payload, rules, now)
  if (invalid !== null) return invalid
  if (!isAudience(aud, rules.audience)) return 'aud'
  if (!isShortString(jti)) return 'jti'
  if (userId !== undefined && userId !== sub) return 'user_id'
  if (role !== undefined && !isShortString(role)) return 'role'
  if (roles !== undefined && !isRoles(roles)) return 'roles'
  if (role !== undefined && roles !== undefined && !roles.includes(role)) return 'roles'
  if (scope !== undefined && typeof scope !== 'string') return 'scope'
  if (kind !== undefined && kind !== 'user' && kind !== 'service') return 'kind'
  if (sid !== undefined && !isShortString(sid)) return 'sid'
  if (clientId !== undefined && !isShortString(clientId)) return 'client_id'
  if (sourceJti !== undefined && typeof sourceJti !== 'string') return 'source_jti'
  return deepFreeze(payload) as unknown as TokenClaims
}

/** Like `readClaims`, for tokens of another issuer, whose private claims have no meaning here. */
export function readTrustedIssuerClaims (
  payload: JsonObject,
  rules: TrustedIssuerClaimRules,
  now: number
): TrustedIssuerClaims | string {
  const { aud, client_id: clientId, jti } = payload
  const invalid = invalidRegisteredClaim(payload, rules, now)
  if (invalid !== null) return invalid
  if (rules.audienceClaim === 'client_id' && clientId !== rules.audience) return 'client_id'
  // If a token has an `aud`, it must name this service, even when another claim holds the audience.
  if ((aud !== undefined || rules.audienceClaim === 'aud') && !isAudience(aud, rules.audience)) return 'aud'
  if ((jti !== undefined || rules.requireJti) && !isShortString(jti)) return 'jti'
  for (const [name, value] of rules.requiredClaims) {
    if (!Object.hasOwn(payload, name) || payload[name] !== value) return name
  }
  return deepFreeze(payload) as unknown as TrustedIssuerClaims
}

/** Returns the name of the first invalid registered claim (RFC 7519 section 4.1). */
function invalidRegisteredClaim (
  { iss, sub, exp, iat, nbf }: JsonObject,
  rules: ClaimRules,
  now: number
): string | null {
  if (iss !== rules.issuer) return 'iss'
  if (!isShortString(sub)) return 'sub'
  if (!isTime(exp)) return 'exp'
  if (!isTime(iat)) return 'iat'
  // Clock skew is allowed only for times in the future; an expiry is exact.
  if (exp <= now) return 'exp'
  if (iat > now + rules.clockSkewSeconds) return 'iat'
  if (exp <= iat || exp - iat > rules.maxLifetimeSeconds) return 'lifetime'
  return nbf === undefined || (isTime(nbf) && nbf <= now + rules.clockSkewSeconds) ? null : 'nbf'
}

// Frozen, because principals are shared between requests.
const NONE: readonly string[] = Object.freeze([])

/** Returns the principal of a token of this service. */
export function principalOfClaims (claims: TokenClaims): Principal {
  return Object.freeze({
    id: claims.sub,
    kind: claims.kind ?? 'user',
    roles: claims.roles ?? (claims.role === undefined ? NONE : Object.freeze([claims.role])),
    scopes: claims.scope === undefined ? NONE : Object.freeze(claims.scope.split(' ').filter(scope => scope !== '')),
    session: claims.jti,
    claims,
    authenticatedBy: 'jwt',
    expiresAt: claims.exp * 1000
  })
}

/**
 * Returns the principal of another issuer's token. Its id and session contain the issuer, so that they
 * cannot collide with local ones. It has no scopes, and only the roles that the configuration maps.
 */
export function principalOfTrustedIssuer (
  claims: TrustedIssuerClaims,
  roles: readonly string[],
  tokenId: string
): Principal {
  return Object.freeze({
    id: `${claims.iss}|${claims.sub}`,
    kind: 'user',
    roles: Object.freeze([...roles]),
    scopes: NONE,
    session: `${claims.iss}|${tokenId}`,
    claims,
    authenticatedBy: 'jwt',
    expiresAt: claims.exp * 1000
  })
}

export function isRoles (value: unknown): value is unknown[] {
  return Array.isArray(value) && value.length <= MAX_ROLES && value.every(isShortString)
}

function isAudience (aud: unknown, audience: string): boolean {
  if (typeof aud === 'string') return aud === audience
  return Array.isArray(aud) && aud.every(one => typeof one === 'string') && aud.includes(audience)
}

export function isShortString (value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= MAX_STRING
}

function isTime (value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function deepFreeze (value: unknown): unknown {
  if (typeof value === 'object' && value !== null) {
    Object.freeze(value)
    for (const key of Object.keys(value)) deepFreeze((value as JsonObject)[key])
  }
  return value
}

/**
 * Returns the claims by which a token's principal can be revoked. `sid` and `jti` of another issuer do
 * not refer to sessions and tokens of this service.
 */
export function revocableOf ({ id, session, claims }: Principal): RevocableClaims & { readonly jti: string } {
  const { sub, iat, sid, source_jti: sourceJti } = claims as TokenClaims
  if (sub === id) return { jti: session!, sub: id, iat, sid, sourceJti }
  // JSON keeps the pair unambiguous: two different pairs never give the same string.
  return { jti: session!, sub: id, iat, issuerSession: isShortString(sid) ? JSON.stringify([id, sid]) : undefined }
}

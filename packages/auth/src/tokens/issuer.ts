import { CredentialInvalid, closest } from '@marty/core'
import { randomBytes } from 'node:crypto'
import { copyClaims } from './application-claims.js'
import { CredentialRequestInvalid } from '../errors.js'
import { JWT_ALGORITHMS } from '../jwt/algorithms.js'
import { isShortString, type TokenClaims } from '../jwt/claims.js'
import { MAX_TOKEN_CHARS } from '../jwt/verify.js'
import { resolveTokenOptions, type TokenOptions } from '../jwt/options.js'

/** The subject of a token, and its rights. */
export interface TokenRequest {
  readonly subject: string
  /** A single role; use `roles` for several. */
  readonly role?: string
  readonly roles?: readonly string[]
  /** Lifetime, at most `maxLifetimeSeconds`. Seconds. @default the `accessTokenTtlSeconds` of the options */
  readonly ttlSeconds?: number
  readonly scopes?: readonly string[]
  /** @default 'user' */
  readonly kind?: 'user' | 'service'
  /**
   * Claim `sid`: the session or family of refresh tokens that the token belongs to. The token ends with
   * it.
   */
  readonly sessionId?: string
  /** Claim `client_id` (RFC 9068): the client that requested the token on behalf of the subject. */
  readonly clientId?: string
  /**
   * Claim `source_jti`: the token of another issuer that this one is exchanged for. The token ends with
   * it.
   */
  readonly sourceJti?: string
  /**
   * The latest time at which the token expires, because its source credential ends then. Milliseconds
   * since the epoch.
   * @default none
   */
  readonly notAfter?: number
  /** Claim `tenant`: the organisation the subject acts for. Limits `by: 'tenant'` count by it. */
  readonly tenant?: string
  /**
   * The application's own claims, available in `principal.claims`: plain JSON of at most 4096 bytes,
   * nested at most six levels deep. Names with a meaning for readers of tokens (`sub`, `exp`, `roles`,
   * ...) are refused.
   */
  readonly claims?: Readonly<Record<string, unknown>>
}

export interface IssuedToken {
  readonly token: string
  /** Lifetime. Seconds. */
  readonly ttlSeconds: number
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
  readonly jti: string
}

export interface TokenIssuer {
  /**
   * Throws `MARTY_AUTH_REQUEST_INVALID` naming the field, and `MARTY_CORE_CREDENTIAL_INVALID` when
   * `notAfter` has passed.
   */
  issue (request: TokenRequest): IssuedToken
}

/**
 * Issues access tokens with the signing key. Does not need Fastify. `earliestIssue` returns the
 * earliest `iat` (seconds since the epoch) of a new token of a subject: a token issued in the same
 * second as a revocation must not be revoked with it.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 */
export function createTokenIssuer (
  options: TokenOptions,
  earliestIssue: (subject: string) => number = () => 0
): TokenIssuer {
  const { issuer, audience, keyring, accessTokenTtlSeconds, maxLifetimeSeconds } = resolveTokenOptions(options)
  return {
    issue (request) {
      const { subject, roles } = checkRequest(request, maxLifetimeSeconds)
      const { scopes = [], kind = 'user', sessionId, clientId, sourceJti, notAfter = Infinity, tenant } = request
      const iat = Math.max(Math.floor(Date.now() / 1000), earliestIssue(subject))
      const exp = Math.min(iat + (request.ttlSeconds ?? accessTokenTtlSeconds), Math.floor(notAfter / 1000))
      if (exp <= iat) throw new CredentialInvalid({ reason: 'source has ended' })
      const jti = randomBytes(16).toString('base64url')
      const claims: TokenClaims = {
        ...copyClaims(request.claims),
        iss: issuer,
        aud: audience,
        sub: subject,
        user_id: subject,
        ...(roles.length === 0 ? {} : { role: roles[0]!, roles }),
        ...(scopes.length === 0 ? {} : { scope: scopes.join(' ') }),
        ...(kind === 'user' ? {} : { kind }),
        ...(sessionId === undefined ? {} : { sid: sessionId }),
        ...(clientId === undefined ? {} : { client_id: clientId }),
        ...(sourceJti === undefined ? {} : { source_jti: sourceJti }),
        ...(tenant === undefined ? {} : { tenant }),
        iat,
        exp,
        jti
      }
      const { kid, alg, signKey } = keyring.signing()
      const input = `${encode({ alg, typ: 'at+jwt', kid })}.${encode(claims)}`
      const token = `${input}.${JWT_ALGORITHMS[alg].sign(signKey, input).toString('base64url')}`
      if (token.length > MAX_TOKEN_CHARS) {
        throw new CredentialRequestInvalid(
          `The token would have ${token.length} characters, and at most ${MAX_TOKEN_CHARS} are accepted; give fewer ` +
            'roles, scopes or claims'
        )
      }
      return { token, ttlSeconds: exp - iat, expiresAt: exp * 1000, jti }
    }
  }
}

/** Issues a single access token. To issue several, keep a `createTokenIssuer`. */
export function issueToken (options: TokenOptions, request: TokenRequest): IssuedToken {
  return createTokenIssuer(options).issue(request)
}

const MEMBERS = [
  'subject', 'role', 'roles', 'ttlSeconds', 'scopes', 'kind', 'sessionId', 'clientId', 'sourceJti', 'notAfter',
  'tenant', 'claims'
]
/** Other names of the members, as claims or in other libraries, for "did you mean". */
const NEAR: Readonly<Record<string, string | undefined>> = Object.freeze({
  __proto__: null as never,
  sub: 'subject',
  ttl: 'ttlSeconds',
  expiresIn: 'ttlSeconds',
  exp: 'ttlSeconds',
  scope: 'scopes',
  sid: 'sessionId',
  client_id: 'clientId',
  payload: 'claims'
})

function checkRequest (
  request: TokenRequest,
  maxLifetimeSeconds: number
): { subject: string, roles: readonly string[] } {
  if (typeof request !== 'object' || request === null) {
    throw new CredentialRequestInvalid('A token is issued for an object such as { subject: "alice" }')
  }
  for (const member of Object.keys(request)) {
    if (MEMBERS.includes(member)) continue
    const near = NEAR[member] ?? closest(member, MEMBERS)
    throw new CredentialRequestInvalid(
      `"${member.slice(0, 40)}" is not known; ` +
        `${near === null ? `known are ${MEMBERS.join(', ')}` : `did you mean "${near}"?`}`
    )
  }
  const { subject, role, ttlSeconds, scopes, kind, sessionId, clientId, sourceJti, notAfter, tenant } = request
  if (!isShortString(subject)) throw new CredentialRequestInvalid('"subject" must be a string of 1 to 256 characters')
  if (role !== undefined && request.roles !== undefined) {
    throw new CredentialRequestInvalid('give either "role" or "roles"')
  }
  const roles = request.roles ?? (role === undefined ? [] : [role])
  if (!Array.isArray(roles) || roles.length > 32 || !roles.every(isShortString)) {
    throw new CredentialRequestInvalid('"roles" must be at most 32 names of 1 to 256 characters')
  }
  if (
    ttlSeconds !== undefined &&
    (!Number.isSafeInteger(ttlSeconds) || ttlSeconds < 1 || ttlSeconds > maxLifetimeSeconds)
  ) {
    throw new CredentialRequestInvalid(
      `"ttlSeconds" must be an integer from 1 to ${maxLifetimeSeconds} (maxLifetimeSeconds)`
    )
  }
  // RFC 6749 section 3.3: printable ASCII without space, quote and backslash.
  if (
    scopes !== undefined &&
    !(
      Array.isArray(scopes) &&
      scopes.every(scope => typeof scope === 'string' && /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope))
    )
  ) {
    throw new CredentialRequestInvalid('"scopes" must be a list of names without spaces')
  }
  if (kind !== undefined && kind !== 'user' && kind !== 'service') {
    throw new CredentialRequestInvalid('"kind" must be "user" or "service"')
  }
  if (sessionId !== undefined && !isShortString(sessionId)) {
    throw new CredentialRequestInvalid('"sessionId" must be a string of 1 to 256 characters')
  }
  if (tenant !== undefined && !isShortString(tenant)) {
    throw new CredentialRequestInvalid('"tenant" must be a string of 1 to 256 characters')
  }
  if (clientId !== undefined && !isShortString(clientId)) {
    throw new CredentialRequestInvalid('"clientId" must be a string of 1 to 256 characters')
  }
  if (sourceJti !== undefined && (typeof sourceJti !== 'string' || sourceJti.length > 1024)) {
    throw new CredentialRequestInvalid('"sourceJti" must be a string of at most 1024 characters')
  }
  // A time in seconds, by mistake, would make a token that has expired before it begins.
  if (notAfter !== undefined && !(notAfter >= 1e11)) {
    throw new CredentialRequestInvalid('"notAfter" must be a time in milliseconds since the epoch')
  }
  return { subject, roles }
}

function encode (value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

import { CredentialInvalid, closest } from '@marty/core'
import { randomBytes } from 'node:crypto'
import { copyClaims } from './application-claims.js'
import { CredentialRequestInvalid } from '../errors.js'
import { JWT_ALGORITHMS } from '../jwt/algorithms.js'
import { isText, type TokenClaims } from '../jwt/claims.js'
import { MAX_TOKEN_CHARS } from '../jwt/verify.js'
import { resolveTokenOptions, type TokenOptions } from '../jwt/options.js'

/** For whom a token is, and what it lets them do. */
export interface TokenRequest {
  readonly subject: string
  /** One role, or several with `roles`. */
  readonly role?: string
  readonly roles?: readonly string[]
  /** How long it lives, at most `maxLifetimeSeconds`. Seconds. @default the `accessTokenTtlSeconds` of the options */
  readonly ttlSeconds?: number
  readonly scopes?: readonly string[]
  /** @default 'user' */
  readonly kind?: 'user' | 'service'
  /** Claim `sid`: the session, or family of refresh tokens, the token belongs to and ends with. */
  readonly sessionId?: string
  /** Claim `client_id` (RFC 9068): who asked for the token on behalf of the subject. */
  readonly clientId?: string
  /** Claim `source_jti`: the token of another issuer that this one is given for, and ends with. */
  readonly sourceJti?: string
  /** When the token ends at the latest, because what it is given for ends then. Milliseconds since the epoch. @default never */
  readonly notAfter?: number
  /** Claim `tenant`: the organisation the subject acts for, which limits `by: 'tenant'` count by. */
  readonly tenant?: string
  /**
   * Claims of the application's own, found again in `principal.claims`: plain JSON of at most 4096 bytes, nested at
   * most six deep. Names that mean something to readers of tokens (`sub`, `exp`, `roles`, ...) are refused.
   */
  readonly claims?: Readonly<Record<string, unknown>>
}

export interface IssuedToken {
  readonly token: string
  /** How long it lives. Seconds. */
  readonly ttlSeconds: number
  /** Milliseconds since the epoch. */
  readonly expiresAt: number
  readonly jti: string
}

export interface TokenIssuer {
  /** Throws `MARTY_AUTH_REQUEST_INVALID` naming the field, and `MARTY_CORE_CREDENTIAL_INVALID` when `notAfter` is over. */
  issue (request: TokenRequest): IssuedToken
}

/**
 * Makes access tokens with the signing key; needs no Fastify. `earliestIssue` tells the earliest `iat` (seconds since
 * the epoch) a subject's new token may have, so that one issued in the second of a revocation is not revoked with it.
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

/** Makes one access token. For more than one, keep a `createTokenIssuer`. */
export function issueToken (options: TokenOptions, request: TokenRequest): IssuedToken {
  return createTokenIssuer(options).issue(request)
}

const MEMBERS = [
  'subject', 'role', 'roles', 'ttlSeconds', 'scopes', 'kind', 'sessionId', 'clientId', 'sourceJti', 'notAfter',
  'tenant', 'claims'
]
/** What the same thing is called elsewhere: as a claim, or by other libraries. */
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
  if (!isText(subject)) throw new CredentialRequestInvalid('"subject" must be a text of 1 to 256 characters')
  if (role !== undefined && request.roles !== undefined) {
    throw new CredentialRequestInvalid('give either "role" or "roles"')
  }
  const roles = request.roles ?? (role === undefined ? [] : [role])
  if (!Array.isArray(roles) || roles.length > 32 || !roles.every(isText)) {
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
  if (sessionId !== undefined && !isText(sessionId)) {
    throw new CredentialRequestInvalid('"sessionId" must be a text of 1 to 256 characters')
  }
  if (tenant !== undefined && !isText(tenant)) {
    throw new CredentialRequestInvalid('"tenant" must be a text of 1 to 256 characters')
  }
  if (clientId !== undefined && !isText(clientId)) {
    throw new CredentialRequestInvalid('"clientId" must be a text of 1 to 256 characters')
  }
  if (sourceJti !== undefined && (typeof sourceJti !== 'string' || sourceJti.length > 1024)) {
    throw new CredentialRequestInvalid('"sourceJti" must be a text of at most 1024 characters')
  }
  // Seconds where milliseconds belong would be a token that is over before it begins.
  if (notAfter !== undefined && !(notAfter >= 1e11)) {
    throw new CredentialRequestInvalid('"notAfter" must be a time in milliseconds since the epoch')
  }
  return { subject, roles }
}

function encode (value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

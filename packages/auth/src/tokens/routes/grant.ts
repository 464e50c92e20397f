import type { Principal } from '@marty/core'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { AuthGrantUnsupported, AuthScopeInvalid } from '../../errors.js'
import type { IssuedToken } from '../issuer.js'
import type { IssuedRefreshToken } from '../refresh/refresh-tokens.js'
import { createBodyAuthenticator } from './authenticators.js'
import { optionalParameter, requiredParameter } from './form-body.js'
import { CLIENT_METHODS, CREDENTIAL_IN_BODY, emitFor, supported, type TokenRouteParts } from './parts.js'

type Grant = (request: FastifyRequest, reply: FastifyReply) => Promise<object>

/** The grants that can be supported: RFC 6749 sections 4.4 and 6, RFC 7523 section 2.1. */
const CLIENT_CREDENTIALS = 'client_credentials'
const REFRESH_TOKEN = 'refresh_token'
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

/** Registers `POST /auth/token` and, with refresh tokens, `POST /auth/refresh`. */
export function registerGrantRoutes (scope: FastifyInstance, parts: TokenRouteParts): void {
  const grants = createGrants(parts)
  const supportedGrants = [...grants.keys()].join(', ') || 'none'

  scope.post('/auth/token', CREDENTIAL_IN_BODY, async (request, reply) => {
    const hasAssertion = optionalParameter(request, 'assertion') !== null
    const grantType = optionalParameter(request, 'grant_type') ?? (hasAssertion ? JWT_BEARER : CLIENT_CREDENTIALS)
    const grant = grants.get(grantType)
    if (grant === undefined) {
      throw new AuthGrantUnsupported(
        `This service does not support the given grant_type; it supports ${supportedGrants}`
      )
    }
    return await grant(request, reply)
  })

  const refresh = grants.get(REFRESH_TOKEN)
  if (refresh !== undefined) scope.post('/auth/refresh', CREDENTIAL_IN_BODY, refresh)
}

/** The grants that this service supports, by `grant_type`. */
function createGrants (parts: TokenRouteParts): ReadonlyMap<string, Grant> {
  const { guard, refresh, trustedIssuers } = parts
  const grants = new Map<string, Grant>()
  const clientMethods = supported(parts, CLIENT_METHODS)
  if (clientMethods.length > 0) {
    const authenticate = createBodyAuthenticator(guard, 'auth.token', clientMethods)
    grants.set(CLIENT_CREDENTIALS, async (request, reply) => {
      return await signIn(parts, request, reply, await authenticate(request, null), true)
    })
  }
  if (refresh !== null) {
    const authenticate = createBodyAuthenticator(guard, 'auth.refresh', ['refresh'])
    grants.set(REFRESH_TOKEN, async (request, reply) => {
      const principal = await authenticate(request, requiredParameter(request, 'refresh_token'))
      const { grant: { source, clientId = null }, ...rotated } = refresh.authenticator.rotationOf(principal)
      const scopes = narrowScopes(principal.scopes, optionalParameter(request, 'scope'))
      const issued = issueAccessToken(parts, { principal, source, scopes, sessionId: rotated.sid, clientId })
      emitFor(guard, request, { type: 'credential', action: 'token.refresh', object: issued.jti, principal })
      return tokenResponse(reply, issued, scopes, rotated)
    })
  }
  if (trustedIssuers !== null) {
    const authenticate = createBodyAuthenticator(guard, 'auth.assertion', ['assertion'])
    grants.set(JWT_BEARER, async (request, reply) => {
      const principal = await authenticate(request, requiredParameter(request, 'assertion'))
      return await signIn(parts, request, reply, principal, false)
    })
  }
  return grants
}

async function signIn (
  parts: TokenRouteParts,
  request: FastifyRequest,
  reply: FastifyReply,
  principal: Principal,
  isClient: boolean
): Promise<object> {
  const { guard, refresh } = parts
  const scopes = narrowScopes(principal.scopes, optionalParameter(request, 'scope'))
  const clientId = principal.kind === 'key' ? principal.id : null
  const family =
    refresh === null || (isClient && !refresh.forClients)
      ? null
      : await refresh.tokens.issue({
        subject: principal.id,
        kind: subjectKind(principal),
        roles: principal.roles,
        scopes,
        ...(clientId === null ? {} : { clientId }),
        source: principal
      })
  const sessionId = family?.sid ?? null
  const issued = issueAccessToken(parts, { principal, source: principal, scopes, sessionId, clientId })
  emitFor(guard, request, { type: 'credential', action: 'token.issue', object: issued.jti, principal })
  return tokenResponse(reply, issued, scopes, family)
}

interface AccessTokenRequest {
  /** Whose rights the token has. It expires with this principal. */
  readonly principal: Principal
  /** The credential that signed in. The token ends with it. */
  readonly source: Principal
  readonly scopes: readonly string[]
  readonly sessionId: string | null
  readonly clientId: string | null
}

function issueAccessToken (
  { issuer }: TokenRouteParts,
  { principal, source, scopes, sessionId, clientId }: AccessTokenRequest
): IssuedToken {
  return issuer.issue({
    subject: principal.id,
    roles: principal.roles,
    scopes,
    kind: subjectKind(principal),
    ...(sessionId === null ? {} : { sessionId }),
    ...(clientId === null ? {} : { clientId }),
    ...(source.authenticatedBy === 'assertion' ? { sourceJti: source.session! } : {}),
    ...(principal.expiresAt === null ? {} : { notAfter: principal.expiresAt })
  })
}

function subjectKind ({ kind }: Principal): 'user' | 'service' {
  return kind === 'user' ? 'user' : 'service'
}

/** The response of RFC 6749 section 5.1. */
function tokenResponse (
  reply: FastifyReply,
  { token, ttlSeconds }: IssuedToken,
  scopes: readonly string[],
  refreshToken: Pick<IssuedRefreshToken, 'token' | 'expiresAt'> | null
): object {
  void reply.header('cache-control', 'no-store')
  return {
    access_token: token,
    token_type: 'Bearer',
    expires_in: ttlSeconds,
    ...(scopes.length === 0 ? {} : { scope: scopes.join(' ') }),
    ...(refreshToken === null
      ? {}
      : {
          refresh_token: refreshToken.token,
          refresh_expires_in: Math.max(0, Math.floor((refreshToken.expiresAt - Date.now()) / 1000))
        })
  }
}

/** RFC 6749 section 3.3: a client may request fewer scopes than were granted, never more. */
function narrowScopes (granted: readonly string[], requested: string | null): readonly string[] {
  if (requested === null) return granted
  const scopes = [...new Set(requested.split(' ').filter(scope => scope !== ''))]
  if (!scopes.every(scope => granted.includes(scope))) throw new AuthScopeInvalid()
  return scopes
}

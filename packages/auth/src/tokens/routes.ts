import {
  CredentialInvalid, type AuthenticationMethod, type Guard, type MartyError, type Principal, type SecurityEvent,
  type SecurityRule
} from '@marty/core'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { ApiKeys } from '../api-keys/api-keys.js'
import { AuthGrantUnsupported, AuthRequestMalformed, AuthScopeInvalid } from '../errors.js'
import type { ForeignDoor } from '../jwt/trusted-issuers.js'
import { principalOfClaims, revocableOf, type TokenClaims } from '../jwt/claims.js'
import type { RefreshTokens } from './refresh/refresh-tokens.js'
import type { Revocations } from '../revocations/revocations.js'
import { acceptForms, optionalParameter, requiredParameter } from './form-body.js'
import type { SessionCookie } from '../sessions/cookie.js'
import type { SessionStore } from '../sessions/sessions.js'
import { proveBy, type RefreshGrantAuthenticator } from './grants.js'
import type { IssuedToken, TokenIssuer } from './issuer.js'

export interface TokenRouteParts {
  readonly guard: Guard
  readonly issuer: TokenIssuer
  /**
   * Returns the claims of a valid token of this service. Throws `MARTY_CORE_CREDENTIAL_INVALID` for any
   * other string.
   */
  readonly verify: (token: string) => TokenClaims
  readonly revocations: Revocations
  readonly refresh: {
    readonly tokens: RefreshTokens
    readonly authenticator: RefreshGrantAuthenticator
    /** Whether `client_credentials` also returns a refresh token. */
    readonly forClients: boolean
  } | null
  readonly apiKeys: ApiKeys | null
  readonly sessions: SessionStore | null
  readonly cookie: SessionCookie | null
  /** The available authentication methods, except refresh tokens and assertions. */
  readonly methods: readonly AuthenticationMethod[]
  /** Verifies tokens of other issuers; null when none are configured. */
  readonly foreign: ForeignDoor | null
  /** The rule for introspection; null allows API keys and client certificates, if the service accepts any. */
  readonly introspection: SecurityRule | null
}

/** The supported grants: RFC 6749 sections 4.4 and 6, RFC 7523 section 2.1. */
const GRANTS = ['client_credentials', 'refresh_token', 'urn:ietf:params:oauth:grant-type:jwt-bearer'] as const

/** `POST /auth/token`, `/auth/refresh`, `/auth/logout`, `/auth/revoke` (RFC 7009) and `/auth/introspect` (RFC 7662). */
export function registerTokenRoutes (fastify: FastifyInstance, parts: TokenRouteParts): void {
  const { guard, issuer, verify, revocations, refresh, apiKeys, sessions, cookie, methods, foreign } = parts
  const only = (...wanted: AuthenticationMethod[]): AuthenticationMethod[] =>
    wanted.filter(method => methods.includes(method))
  const clients = only('apiKey', 'mtls')
  const proveClient = clients.length === 0 ? null : proveBy(guard, 'auth.token', clients)
  const proveAssertion = foreign !== null ? proveBy(guard, 'auth.assertion', ['assertion']) : null
  const proveRefresh = refresh === null ? null : proveBy(guard, 'auth.refresh', ['refresh'])
  const known = GRANTS.filter((_, index) => [proveClient, proveRefresh, proveAssertion][index] !== null)

  const tell = (
    request: FastifyRequest,
    type: SecurityEvent['type'],
    action: string,
    object: string,
    { id, kind, roles }: Principal
  ): void => {
    void guard.emit({
      type,
      action,
      outcome: 'success',
      reason: null,
      principal: { id, kind, roles },
      address: request.ip ?? null,
      requestId: request.id,
      object
    })
  }

  /**
   * Issues an access token with the principal's rights. It expires with the principal and ends with the
   * source, the credential that signed in.
   */
  function accessToken (
    principal: Principal,
    source: Principal,
    scopes: readonly string[],
    sessionId: string | null,
    clientId: string | null
  ): IssuedToken {
    return issuer.issue({
      subject: principal.id,
      roles: principal.roles,
      scopes,
      kind: principal.kind === 'user' ? 'user' : 'service',
      ...(sessionId === null ? {} : { sessionId }),
      ...(clientId === null ? {} : { clientId }),
      ...(source.authenticatedBy === 'assertion' ? { sourceJti: source.session! } : {}),
      ...(principal.expiresAt === null ? {} : { notAfter: principal.expiresAt })
    })
  }

  /** Builds the response of RFC 6749 section 5.1. */
  const answer = (
    reply: FastifyReply,
    { token, ttlSeconds }: { token: string, ttlSeconds: number },
    scopes: readonly string[],
    refreshToken: { token: string, expiresAt: number } | null
  ): object => {
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

  async function signIn (
    request: FastifyRequest,
    reply: FastifyReply,
    principal: Principal,
    isClient: boolean
  ): Promise<object> {
    const scopes = narrowed(principal.scopes, optionalParameter(request, 'scope'))
    const clientId = principal.kind === 'key' ? principal.id : null
    const family =
      refresh === null || (isClient && !refresh.forClients)
        ? null
        : await refresh.tokens.issue({
          subject: principal.id,
          kind: principal.kind === 'user' ? 'user' : 'service',
          roles: principal.roles,
          scopes,
          ...(clientId === null ? {} : { clientId }),
          source: principal
        })
    const issued = accessToken(principal, principal, scopes, family?.sid ?? null, clientId)
    tell(request, 'credential', 'token.issue', issued.jti, principal)
    return answer(reply, issued, scopes, family)
  }

  async function refreshed (request: FastifyRequest, reply: FastifyReply): Promise<object> {
    const token = requiredParameter(request, 'refresh_token')
    const principal = await proveRefresh!(request, token)
    const rotated = refresh!.authenticator.rotationOf(principal)
    const scopes = narrowed(principal.scopes, optionalParameter(request, 'scope'))
    const issued = accessToken(principal, rotated.grant.source, scopes, rotated.sid, rotated.grant.clientId ?? null)
    tell(request, 'credential', 'token.refresh', issued.jti, principal)
    return answer(reply, issued, scopes, rotated)
  }

  void fastify.register(async scope => {
    acceptForms(scope)
    // Public, because the credential may be in the body. The handler authenticates it with the same
    // pipeline.
    const open = { config: { security: { sameOrigin: true, public: true } } } as const

    scope.post('/auth/token', open, async (request, reply) => {
      const assertion = optionalParameter(request, 'assertion')
      const grant = optionalParameter(request, 'grant_type') ?? (assertion === null ? GRANTS[0] : GRANTS[2])
      if (!(known as readonly string[]).includes(grant)) {
        throw new AuthGrantUnsupported(
          `This service does not know the grant_type; it knows ${known.join(', ') || 'none'}`
        )
      }
      if (grant === GRANTS[1]) return await refreshed(request, reply)
      return grant === GRANTS[2]
        ? await signIn(request, reply, await proveAssertion!(request, requiredParameter(request, 'assertion')), false)
        : await signIn(request, reply, await proveClient!(request, null), true)
    })

    if (refresh !== null) scope.post('/auth/refresh', open, refreshed)

    const signedIn = { sameOrigin: true, authenticate: only('jwt', 'session') } as const
    scope.post('/auth/logout', { config: { security: signedIn } }, async (request, reply) => {
      const { principal } = request
      const body = request.body as { everywhere?: unknown } | null | undefined
      const everywhere = body?.everywhere === true || body?.everywhere === 'true'
      const refreshToken = optionalParameter(request, 'refresh_token')
      if (principal.authenticatedBy === 'jwt') await signOut(principal)
      else if (principal.session !== null) await sessions?.revokeByKey(principal.session)
      if (refreshToken !== null && (await refresh?.tokens.inspect(refreshToken))?.grant.subject === principal.id) {
        await refresh?.tokens.revoke(refreshToken)
      }
      if (everywhere) {
        await revocations.revokeSubject(principal.id)
        await sessions?.revokeAll(principal)
      }
      tell(
        request,
        'session',
        everywhere ? 'session.revoke_all' : 'session.revoke',
        principal.session ?? principal.id,
        principal
      )
      if (cookie !== null && principal.authenticatedBy === 'session') void reply.header('set-cookie', cookie.cleared)
      return await reply.code(204).send()
    })

    // Any holder of a token may revoke it (RFC 7009 section 2.1, public clients). The response is the
    // same for any other string.
    scope.post('/auth/revoke', open, async (request, reply) => {
      const token = requiredParameter(request, 'token')
      if (apiKeys?.accepts(token) === true) {
        throw new AuthRequestMalformed('API keys are not revoked here; use the key administration of the service')
      }
      const ended = await end(token)
      if (ended !== null) {
        tell(request, 'credential', 'token.revoke', ended.object, { ...request.principal, ...ended.owner })
      }
      return await reply.code(200).header('cache-control', 'no-store').send()
    })

    const introspection = parts.introspection ?? (clients.length === 0 ? null : { authenticate: clients })
    if (introspection === null) return
    const mayIntrospect = { sameOrigin: true, ...introspection } as const
    scope.post('/auth/introspect', { config: { security: mayIntrospect } }, async (request, reply) => {
      void reply.header('cache-control', 'no-store')
      return await introspect(requiredParameter(request, 'token'))
    })
  })

  /**
   * Revokes a token and the session it belongs to: a family of refresh tokens, or the session at its
   * issuer.
   */
  async function signOut (principal: Principal): Promise<void> {
    const { jti, iat, sid, issuerSession } = revocableOf(principal)
    await revocations.revokeToken(jti, principal.expiresAt!)
    if (issuerSession !== undefined) await revocations.revokeIssuerSession(issuerSession, iat)
    if (sid === undefined) return
    await refresh?.tokens.revokeFamily(sid)
    // Revoke the access tokens even if the refresh tokens have already ended.
    await revocations.revokeFamily(sid)
  }

  async function end (
    token: string
  ): Promise<{ object: string, owner: Pick<Principal, 'id' | 'kind' | 'roles'> } | null> {
    if (token.startsWith('ses_')) {
      const principal = (await sessions?.get(token)) ?? null
      return principal !== null && (await sessions!.revoke(token))
        ? { object: principal.session!, owner: principal }
        : null
    }
    if (token.startsWith('ref_')) {
      const family = (await refresh?.tokens.revoke(token)) ?? null
      return family === null
        ? null
        : {
            object: family.sid,
            owner: { id: family.grant.subject, kind: family.grant.kind, roles: family.grant.roles }
          }
    }
    const principal = await unlessBad(async () => await principalOf(token))
    if (principal === null) return null
    await revocations.revokeToken(principal.session!, principal.expiresAt!)
    return { object: principal.session!, owner: principal }
  }

  async function introspect (token: string): Promise<object> {
    if (token.startsWith('ref_')) {
      const family = await refresh?.tokens.inspect(token) ?? null
      if (family === null || !await guard.isAlive(family.grant.source)) return { active: false }
      const { grant: { subject, scopes, clientId, roles }, sid, expiresAt } = family
      return {
        active: true,
        token_type: 'refresh_token',
        sub: subject,
        roles,
        exp: Math.floor(expiresAt / 1000),
        sid,
        ...(clientId === undefined ? {} : { client_id: clientId }),
        ...(scopes.length === 0 ? {} : { scope: scopes.join(' ') })
      }
    }
    const claims = await unlessBad(() => verify(token))
    return claims === null ? { active: false } : { active: true, token_type: 'access_token', ...claims }
  }

  /** Returns the principal of a valid token of this service or of another issuer. */
  async function principalOf (token: string): Promise<Principal> {
    if (foreign?.concerns(token) !== true) return principalOfClaims(verify(token))
    const principal = await foreign.verifyAssertion(token)
    if (revocations.isRevoked(revocableOf(principal))) throw new CredentialInvalid({ reason: 'revoked' })
    return principal
  }
}

/** Returns null for an invalid token. Other errors, such as a store that does not respond, are rethrown. */
async function unlessBad<T> (prove: () => T | Promise<T>): Promise<T | null> {
  try {
    return await prove()
  } catch (error) {
    if ((error as MartyError).statusCode === 401) return null
    throw error
  }
}

/** RFC 6749 section 3.3: a client may request fewer scopes than were granted, never more. */
function narrowed (granted: readonly string[], asked: string | null): readonly string[] {
  if (asked === null) return granted
  const scopes = [...new Set(asked.split(' ').filter(scope => scope !== ''))]
  const beyond = scopes.find(scope => !granted.includes(scope))
  if (beyond !== undefined) throw new AuthScopeInvalid()
  return scopes
}

import './augment.js'
import { CredentialInvalid, invalidCredential, useGuard } from '@marty/core'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { createApiKeys } from './api-keys.js'
import { createAuthenticators } from './authenticators.js'
import { createCsrfCheck } from './csrf.js'
import { withEvents } from './events.js'
import { registerFastifyJwt } from './fastify-jwt.js'
import { createTokenDoor, type VerifiedToken } from './jwt-door.js'
import { registerMeRoute } from './me-route.js'
import { mtlsAuthenticator } from './mtls.js'
import { resolveOptions, type AuthOptions } from './options.js'
import { createRefreshTokens } from './refresh-tokens.js'
import { createRevocations } from './revocations.js'
import { createSessionCookie } from './session-cookie.js'
import { registerSessionRoutes } from './session-routes.js'
import { resolveSessionOptions } from './sessions-options.js'
import { createSessionStore } from './sessions.js'
import { refreshAuthenticator } from './token-grants.js'
import { createTokenIssuer } from './token-issuer.js'
import { registerTokenRoutes } from './token-routes.js'

const plugin: FastifyPluginAsync<AuthOptions> = async (fastify, options) => {
  const { tokens, apiKeys: apiKeyOptions, sessions: sessionOptions, store, refresh: refreshOptions, lockout: lockoutOptions, mtls, routes } = resolveOptions(options)
  const guard = useGuard(fastify)
  const door = createTokenDoor(tokens)
  const revocations = createRevocations(store, {
    maxLifetimeSeconds: tokens.maxLifetimeSeconds,
    // A refresh token outlives access tokens, and must not outlive the memory of why it ended.
    subjectLifetimeSeconds: Math.max(tokens.maxLifetimeSeconds, refreshOptions?.absoluteSeconds ?? 0),
    onProblem: error => { fastify.log.warn({ err: error }, 'revocations of other replicas are not known until the store answers; after a minute nobody is let in') }
  })
  const refresh = refreshOptions === null
    ? null
    : createRefreshTokens(store, {
      ...refreshOptions,
      revocations,
      onReuse: (sid, { subject, kind, roles }) => {
        void guard.emit({ type: 'credential', action: 'refresh_token.reuse', outcome: 'denied', reason: 'MARTY_CORE_CREDENTIAL_INVALID', principal: { id: subject, kind, roles }, address: null, requestId: null, object: sid })
      }
    })
  const apiKeys = apiKeyOptions === null ? null : createApiKeys(apiKeyOptions)
  const sessions = sessionOptions === null ? null : createSessionStore(store, sessionOptions)
  const { idleMs, cookie: cookieOptions, trustedOrigins } = resolveSessionOptions(sessionOptions ?? {})
  const cookie = createSessionCookie(cookieOptions)
  const csrf = createCsrfCheck(trustedOrigins)
  const issuer = createTokenIssuer(options, revocations.earliestIssue)
  const verify = (token: string): VerifiedToken => {
    const verified = door(token)
    if (revocations.isRevoked(verified.claims)) throw new CredentialInvalid(invalidCredential)
    return verified
  }

  if (tokens.accessTokenTtlSeconds > 3_600) {
    fastify.log.warn({ accessTokenTtlSeconds: tokens.accessTokenTtlSeconds }, 'access tokens live longer than an hour: a stolen one stays useful that long')
  }
  await registerFastifyJwt(fastify, tokens, verify)
  const told = withEvents(guard, {
    tokens: {
      issue: issuer.issue,
      verify: token => verify(token).claims,
      revoke: revocations.revokeToken,
      revokeSubject: revocations.revokeSubject,
      async revokeFamily (sid, expiresAt) {
        await Promise.all([revocations.revokeFamily(sid, expiresAt), refresh?.revokeFamily(sid)])
      }
    },
    apiKeys,
    sessions
  })
  fastify.decorate('tokens', told.tokens)
  fastify.decorate('apiKeys', told.apiKeys)
  fastify.decorate('sessions', told.sessions)
  fastify.addHook('onReady', revocations.start)
  fastify.addHook('onClose', async () => { revocations.close() })
  fastify.decorate('sessionCookie', sessions === null ? null : cookie)
  const authenticators = createAuthenticators({ door, revocations, apiKeys, sessions: sessions === null ? null : { guard, sessions, cookie, csrf } })
  if (mtls !== null) authenticators.push(mtlsAuthenticator(mtls))
  for (const authenticator of authenticators) guard.addAuthenticator(authenticator)
  if (routes === null) return

  const methods = authenticators.map(({ method }) => method)
  const grants = refresh === null ? null : { tokens: refresh, authenticator: refreshAuthenticator(guard, refresh) }
  if (grants !== null) guard.addAuthenticator(grants.authenticator)
  registerMeRoute(fastify)
  if (told.sessions !== null) registerSessionRoutes(fastify, { sessions: told.sessions, cookie, csrf, idleMs, methods })
  registerTokenRoutes(fastify, {
    guard,
    tokens,
    issuer,
    verify: token => verify(token).claims,
    revocations,
    refresh: grants,
    apiKeys,
    sessions,
    cookie: sessions === null ? null : cookie,
    methods,
    hasForeignIssuers: false,
    introspection: routes.introspection
  })
}

/**
 * Says who is calling: JWT access tokens, API keys and sessions, as authenticators of the guard.
 *
 * @throws `MARTY_AUTH_OPT_INVALID` naming the option
 * @example
 * await app.register(auth, { issuer: 'https://cameras.example', audience: 'camera-service', keys: { signing: { kid: '2026-01', algorithm: 'HS256', secret } } })
 * app.get('/cameras', { config: { security: { authenticate: true } } }, async request => request.principal.id)
 */
export const auth: FastifyPluginAsync<AuthOptions> = fp(plugin, { name: '@marty/auth', fastify: '5.x' })
export default auth

export { openFileApiKeyStore } from './api-key-file-store.js'
export { createMemoryApiKeyStore } from './api-key-memory-store.js'
export type { ApiKeyOptions } from './api-key-options.js'
export type { ApiKeyRecord, ApiKeySecret, ApiKeyStore } from './api-key-store.js'
export { createApiKeys, type ApiKeyInfo, type ApiKeyRequest, type ApiKeys, type IssuedApiKey } from './api-keys.js'
export { ApiKeyConflict, ApiKeyNotFound, ApiKeyStoreInvalid, AuthBusy, AuthCapacityExceeded, AuthGrantUnsupported, AuthLocked, AuthOptionInvalid, AuthRequestMalformed, AuthScopeInvalid, AuthStoreUnavailable, CredentialRequestInvalid, CsrfInvalid } from './errors.js'
export type { AuthStore, RedisAuthStore, ResolvedAuthStore } from './store-options.js'
export type { HashGateLimits } from './hash-gate.js'
export type { TokenClaims } from './jwt-claims.js'
export type { JwtAlgorithmName } from './jwt-algorithms.js'
export type { JwtKeyOptions, JwtKeysOptions } from './jwt-keys.js'
export type { AuthOptions } from './options.js'
export { createLockout, type Lockout, type LockoutEvents } from './lockout.js'
export type { LockoutOptions } from './lockout-options.js'
export type { MtlsOptions, MtlsService } from './mtls.js'
export type { RefreshOptions } from './refresh-options.js'
export { createRefreshTokens, type IssuedRefreshToken, type RefreshGrant, type RefreshTokens, type RefreshTokensOptions, type RotatedRefreshToken } from './refresh-tokens.js'
export { createRevocations, type RevocableClaims, type Revocations, type RevocationsHealth, type RevocationsOptions } from './revocations.js'
export type { SessionCookie, SessionCookieOptions } from './session-cookie.js'
export { createSessionStore, type IssuedSession, type SessionAbout, type SessionInfo, type Sessions, type SessionStore } from './sessions.js'
export type { SessionOptions } from './sessions-options.js'
export type { SessionOwner, SessionRecord } from './sessions-records.js'
export { createTokenIssuer, issueToken, type IssuedToken, type TokenIssuer, type TokenRequest } from './token-issuer.js'
export type { TokenOptions } from './token-options.js'
export type { Tokens } from './tokens.js'
export { createTokenVerifier } from './token-verifier.js'

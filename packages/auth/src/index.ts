import './augment.js'
import { CredentialInvalid, invalidCredential, useGuard } from '@marty/core'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { createApiKeys } from './api-keys.js'
import { createAuthenticators } from './authenticators.js'
import { withEvents } from './events.js'
import { registerFastifyJwt } from './fastify-jwt.js'
import { createTokenDoor, type VerifiedToken } from './jwt-door.js'
import { registerMeRoute } from './me-route.js'
import { resolveOptions, type AuthOptions } from './options.js'
import { createRefreshTokens } from './refresh-tokens.js'
import { createRevocations } from './revocations.js'
import { createSessionStore } from './sessions.js'
import { createTokenIssuer } from './token-issuer.js'

const plugin: FastifyPluginAsync<AuthOptions> = async (fastify, options) => {
  const { tokens, apiKeys: apiKeyOptions, sessions: sessionOptions, store, refresh: refreshOptions, routes } = resolveOptions(options)
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
  const sessions = sessionOptions === null ? null : createSessionStore(sessionOptions)
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
      issue: createTokenIssuer(options).issue,
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
  for (const authenticator of createAuthenticators({ guard, door, revocations, apiKeys, sessions })) guard.addAuthenticator(authenticator)
  if (routes) registerMeRoute(fastify)
  fastify.addHook('onReady', revocations.start)
  fastify.addHook('onClose', async () => { revocations.close() })
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
export { ApiKeyConflict, ApiKeyNotFound, ApiKeyStoreInvalid, AuthBusy, AuthCapacityExceeded, AuthOptionInvalid, AuthStoreUnavailable, CredentialRequestInvalid } from './errors.js'
export type { AuthStore, RedisAuthStore, ResolvedAuthStore } from './store-options.js'
export type { HashGateLimits } from './hash-gate.js'
export type { TokenClaims } from './jwt-claims.js'
export type { JwtAlgorithmName } from './jwt-algorithms.js'
export type { JwtKeyOptions, JwtKeysOptions } from './jwt-keys.js'
export type { AuthOptions } from './options.js'
export type { RefreshOptions } from './refresh-options.js'
export { createRefreshTokens, type IssuedRefreshToken, type RefreshGrant, type RefreshTokens, type RefreshTokensOptions, type RotatedRefreshToken } from './refresh-tokens.js'
export { createRevocations, type RevocableClaims, type Revocations, type RevocationsHealth, type RevocationsOptions } from './revocations.js'
export { createSessionStore, type IssuedSession, type SessionOptions, type Sessions, type SessionStore } from './sessions.js'
export { createTokenIssuer, issueToken, type IssuedToken, type TokenIssuer, type TokenRequest } from './token-issuer.js'
export type { TokenOptions } from './token-options.js'
export type { Tokens } from './tokens.js'
export { createTokenVerifier } from './token-verifier.js'

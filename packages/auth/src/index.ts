import './augment.js'
import { ANONYMOUS, CredentialInvalid, invalidCredential, useGuard } from '@marty/core'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { createApiKeys } from './api-keys.js'
import { createAuthenticators } from './authenticators.js'
import { withEvents } from './events.js'
import { registerFastifyJwt } from './fastify-jwt.js'
import { createLockout } from './lockout.js'
import { createMtlsAuthenticator } from './mtls.js'
import { createTokenDoor, type VerifiedToken } from './jwt-door.js'
import { registerMeRoute } from './me-route.js'
import { resolveOptions, type AuthOptions } from './options.js'
import { createRevocationList } from './revocation.js'
import { createSessionStore } from './sessions.js'
import { createTokenIssuer } from './token-issuer.js'

const plugin: FastifyPluginAsync<AuthOptions> = async (fastify, options) => {
  const { tokens, apiKeys: apiKeyOptions, sessions: sessionOptions, store, lockout: lockoutOptions, mtls, routes } = resolveOptions(options)
  const guard = useGuard(fastify)
  const door = createTokenDoor(tokens)
  const revocations = createRevocationList()
  const lockout = lockoutOptions === null
    ? null
    : createLockout(store, {
      ...lockoutOptions,
      onLocked (account, address, until) {
        void guard.emit({
          type: 'authentication',
          action: 'account.lock',
          outcome: 'denied',
          reason: 'MARTY_AUTH_LOCKED',
          principal: ANONYMOUS,
          address,
          requestId: null,
          object: account.slice(0, 256),
          details: { locked_until: until }
        })
      },
      onProblem (error) { fastify.log.warn({ err: error }, 'failed attempts are counted in this process alone until the store answers') }
    })
  const apiKeys = apiKeyOptions === null ? null : createApiKeys(apiKeyOptions)
  const sessions = sessionOptions === null ? null : createSessionStore(sessionOptions)
  const verify = (token: string): VerifiedToken => {
    const verified = door(token)
    if (revocations.has(verified.claims.jti)) throw new CredentialInvalid(invalidCredential)
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
      revoke: revocations.revoke
    },
    apiKeys,
    sessions
  })
  fastify.decorate('tokens', told.tokens)
  fastify.decorate('apiKeys', told.apiKeys)
  fastify.decorate('sessions', told.sessions)
  for (const authenticator of createAuthenticators({ guard, door, revocations, apiKeys, sessions })) guard.addAuthenticator(authenticator)
  // Last: whatever the headers offer is heard before the connection.
  if (mtls !== null) guard.addAuthenticator(createMtlsAuthenticator(mtls))
  fastify.decorate('lockout', lockout)
  fastify.addHook('onClose', async () => { lockout?.close() })
  if (routes) registerMeRoute(fastify)
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
export { AccountLocked, ApiKeyConflict, ApiKeyNotFound, ApiKeyStoreInvalid, AuthBusy, AuthCapacityExceeded, AuthOptionInvalid, AuthStoreUnavailable, CredentialRequestInvalid } from './errors.js'
export type { AuthStore, RedisAuthStore } from './store-options.js'
export type { HashGateLimits } from './hash-gate.js'
export type { TokenClaims } from './jwt-claims.js'
export type { JwtAlgorithmName } from './jwt-algorithms.js'
export type { JwtKeyOptions, JwtKeysOptions } from './jwt-keys.js'
export type { AuthOptions } from './options.js'
export { createRevocationList, type RevocationList } from './revocation.js'
export { createSessionStore, type IssuedSession, type SessionOptions, type Sessions, type SessionStore } from './sessions.js'
export { createTokenIssuer, issueToken, type IssuedToken, type TokenIssuer, type TokenRequest } from './token-issuer.js'
export type { TokenOptions } from './token-options.js'
export type { Tokens } from './tokens.js'
export { createTokenVerifier } from './token-verifier.js'
export { createLockout, type Lockout, type LockoutSettings } from './lockout.js'
export type { LockoutOptions } from './lockout-options.js'
export { createMtlsAuthenticator } from './mtls.js'
export type { MtlsOptions, MtlsService } from './mtls-options.js'

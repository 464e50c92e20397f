import './augment.js'
import { CredentialInvalid, invalidCredential, useGuard } from '@marty/core'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { createApiKeys } from './api-keys.js'
import { createAuthenticators } from './authenticators.js'
import { withEvents } from './events.js'
import { registerFastifyJwt } from './fastify-jwt.js'
import { createForeignDoor } from './foreign-issuers.js'
import { registerJwksRoute } from './jwks.js'
import { createTokenDoor, type VerifiedToken } from './jwt-door.js'
import { registerMeRoute } from './me-route.js'
import { resolveOptions, type AuthOptions } from './options.js'
import { createRevocationList } from './revocation.js'
import { createSessionStore } from './sessions.js'
import { createTokenIssuer } from './token-issuer.js'
import { rememberVerified } from './verified-tokens.js'

const plugin: FastifyPluginAsync<AuthOptions> = async (fastify, options) => {
  const { tokens, apiKeys: apiKeyOptions, sessions: sessionOptions, routes } = resolveOptions(options)
  const guard = useGuard(fastify)
  const door = createTokenDoor(tokens)
  const foreign = createForeignDoor(options.issuers, tokens)
  const revocations = createRevocationList()
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
  for (const authenticator of createAuthenticators({ guard, admit: rememberVerified(door, tokens.keyring), foreign, revocations, apiKeys, sessions })) guard.addAuthenticator(authenticator)
  if (routes) registerMeRoute(fastify)
  if (routes) registerJwksRoute(fastify, tokens.keyring)
  fastify.addHook('onClose', async () => { foreign?.close() })
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
export { ApiKeyConflict, ApiKeyNotFound, ApiKeyStoreInvalid, AuthBusy, AuthCapacityExceeded, AuthOptionInvalid, AuthStoreUnavailable, CredentialRequestInvalid, IssuerUnavailable, SigningKeysInvalid } from './errors.js'
export type { AuthStore, RedisAuthStore } from './store-options.js'
export type { HashGateLimits } from './hash-gate.js'
export type { TokenClaims } from './jwt-claims.js'
export type { AsymmetricAlgorithmName, JwtAlgorithmName } from './jwt-algorithms.js'
export type { JwtKey, JwtKeyOptions, JwtKeysOptions, PrivateKeyOptions, PublicKeyOptions, SecretKeyOptions, SigningKey, SigningKeys } from './jwt-keys.js'
export type { KeyMaterial } from './jwt-key-material.js'
export type { ForeignDoor, ForeignIssuerOptions } from './foreign-issuers.js'
export { jwksOf, registerJwksRoute, type Jwks, type PublicJwk } from './jwks.js'
export { openSigningKeys, type SigningKeyRecord, type SigningKeysOptions } from './signing-keys-file.js'
export { rotateSigningKeys, type RotatedSigningKey, type SigningKeyRotation } from './signing-keys-rotation.js'
export type { AuthOptions } from './options.js'
export { createRevocationList, type RevocationList } from './revocation.js'
export { createSessionStore, type IssuedSession, type SessionOptions, type Sessions, type SessionStore } from './sessions.js'
export { createTokenIssuer, issueToken, type IssuedToken, type TokenIssuer, type TokenRequest } from './token-issuer.js'
export type { TokenOptions } from './token-options.js'
export type { Tokens } from './tokens.js'
export { createTokenVerifier } from './token-verifier.js'

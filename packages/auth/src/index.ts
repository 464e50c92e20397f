import './augment.js'
import { CredentialInvalid, useGuard } from '@marty/core'
import type { FastifyBaseLogger, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { createApiKeys, type ApiKeys } from './api-keys/api-keys.js'
import type { Auth } from './auth.js'
import { createAuthenticators } from './authenticators.js'
import { createCsrfCheck, sameOriginCheck } from './sessions/csrf.js'
import { createTellers, withEvents } from './events.js'
import { checkHandshakes } from './sessions/handshake-origin.js'
import { registerFastifyJwt } from './jwt/fastify-jwt.js'
import { createForeignDoor } from './jwt/trusted-issuers.js'
import { registerJwksRoute } from './jwt/jwks.js'
import { createTokenDoor, type VerifiedToken } from './jwt/verify.js'
import { registerMeRoute } from './tokens/me-route.js'
import { createLockout } from './lockout/lockout.js'
import { resolveOptions, type AuthOptions } from './options.js'
import { createRefreshTokens } from './tokens/refresh/refresh-tokens.js'
import { createRevocations } from './revocations/revocations.js'
import { createSessionCookie } from './sessions/cookie.js'
import { registerSessionRoutes } from './sessions/routes.js'
import { resolveSessionOptions } from './sessions/options.js'
import { createSessionStore } from './sessions/sessions.js'
import { assertionAuthenticator, refreshAuthenticator, type EndOf } from './tokens/grants.js'
import { createTokenIssuer } from './tokens/issuer.js'
import { registerTokenRoutes } from './tokens/routes.js'
import { rememberVerified } from './jwt/verified-token-cache.js'

const plugin: FastifyPluginAsync<AuthOptions> = async (fastify, options) => {
  const guard = useGuard(fastify)
  const resolved = resolveOptions(options)
  const { tokens, apiKeys: apiKeyOptions, sessions: sessionOptions, store, mtls, routes } = resolved
  const { refresh: refreshOptions, trustedOrigins, lockout: lockoutOptions } = resolved
  const { verified, oldSecret, reuse, displaced, locked } = createTellers(guard)
  const door = createTokenDoor(tokens)
  const foreign = createForeignDoor(options.issuers, tokens)
  const longestSeconds = Math.max(tokens.maxLifetimeSeconds, foreign?.maxLifetimeSeconds ?? 0)
  const {
    idleMs, absoluteMs, cookie: cookieOptions, trustedOrigins: sessionOrigins
  } = resolveSessionOptions(sessionOptions ?? {})
  const revocations = createRevocations(store, {
    maxLifetimeSeconds: longestSeconds,
    // Refresh tokens and sessions may live longer than access tokens. A revocation of their subject must
    // be kept for as long.
    subjectLifetimeSeconds: Math.max(longestSeconds, refreshOptions?.absoluteSeconds ?? 0, absoluteMs / 1000),
    onProblem: error => {
      fastify.log.warn(
        { err: error },
        'revocations of other replicas are not known until the store answers; after a minute nobody is let in'
      )
    }
  })
  const refresh =
    refreshOptions === null
      ? null
      : createRefreshTokens(store, { ...refreshOptions, revocations, onReuse: reuse, onDisplaced: displaced })
  const lockout =
    lockoutOptions === null
      ? null
      : createLockout(store, {
        ...lockoutOptions,
        onLocked: locked,
        onProblem: error => {
          fastify.log.warn(
            { err: error },
            'failed attempts are counted in this process alone until the store answers'
          )
        }
      })
  const apiKeys = apiKeyOptions === null
    ? null
    : createApiKeys(apiKeyOptions, {
      ...(lockout === null ? {} : { lockout }),
      onVerified: verified,
      onOldSecret: oldSecret,
      onProblem: error => { fastify.log.warn({ err: error }, 'the store of API keys could not be written') }
    })
  const sessions =
    sessionOptions === null ? null : createSessionStore(store, sessionOptions, Date.now, revocations.earliestIssue)
  const cookie = createSessionCookie(cookieOptions)
  const csrf = createCsrfCheck([...trustedOrigins, ...sessionOrigins])
  guard.addCheck(sameOriginCheck(csrf))
  const issuer = createTokenIssuer(options, revocations.earliestIssue)
  const verify = (token: string): VerifiedToken => {
    const verified = door(token)
    if (revocations.isRevoked(verified.claims)) throw new CredentialInvalid({ reason: 'revoked' })
    return verified
  }

  if (tokens.accessTokenTtlSeconds > 3_600) {
    fastify.log.warn(
      { accessTokenTtlSeconds: tokens.accessTokenTtlSeconds },
      'access tokens live longer than an hour: a stolen one stays useful that long'
    )
  }
  await registerFastifyJwt(fastify, tokens, verify)
  const told = withEvents(guard, {
    tokens: {
      issue: issuer.issue,
      verify: token => verify(token).claims,
      revoke: revocations.revokeToken,
      async revokeSubject (subject) {
        await Promise.all([
          revocations.revokeSubject(subject),
          ...(['user', 'service', 'key'] as const).map(async kind => await sessions?.revokeAll({ kind, id: subject }))
        ])
      },
      async revokeFamily (sid, expiresAt) {
        await Promise.all([revocations.revokeFamily(sid, expiresAt), refresh?.revokeFamily(sid)])
      }
    },
    apiKeys,
    sessions
  })
  const services: Auth = Object.freeze({ ...told, sessionCookie: sessions === null ? null : cookie, lockout })
  fastify.decorate('auth', services)
  fastify.addHook('onReady', async () => {
    await revocations.start()
    if (apiKeys !== null) await warnOfPepper(apiKeys, fastify.log)
  })
  fastify.addHook('onClose', async () => {
    revocations.close()
    foreign?.close()
    lockout?.close()
    await apiKeys?.close()
  })

  const authenticators = createAuthenticators({
    admit: rememberVerified(door, tokens.keyring),
    foreign,
    revocations,
    apiKeys,
    sessions: sessions === null ? null : { guard, sessions, revocations, cookie, csrf },
    mtls,
    onVerified: verified
  })
  for (const authenticator of authenticators) guard.addAuthenticator(authenticator)
  if (sessions !== null) checkHandshakes(fastify, guard, cookie, csrf)
  if (routes === null) return

  const methods = authenticators.map(({ method }) => method)
  const endOf: EndOf = source =>
    source.authenticatedBy === 'apiKey' && apiKeys !== null ? apiKeys.endsAt(source) : source.expiresAt
  const grants =
    refresh === null
      ? null
      : {
          tokens: refresh,
          authenticator: refreshAuthenticator(guard, refresh, endOf),
          forClients: refreshOptions!.clientCredentials
        }
  if (grants !== null) guard.addAuthenticator(grants.authenticator)
  if (foreign !== null) guard.addAuthenticator(assertionAuthenticator(foreign.verifyAssertion, revocations))
  registerMeRoute(fastify)
  registerJwksRoute(fastify, tokens.keyring)
  if (told.sessions !== null) registerSessionRoutes(fastify, { sessions: told.sessions, cookie, idleMs, methods })
  registerTokenRoutes(fastify, {
    guard,
    issuer,
    verify: token => verify(token).claims,
    revocations,
    refresh: grants,
    apiKeys,
    sessions,
    cookie: sessions === null ? null : cookie,
    methods,
    foreign,
    introspection: routes.introspection
  })
}

/**
 * Logs an error when keys were made with an unknown pepper. Clients only see that their keys are
 * refused, so the operator has to learn the cause from the log.
 */
async function warnOfPepper (apiKeys: ApiKeys, log: FastifyBaseLogger): Promise<void> {
  try {
    const count = await apiKeys.withUnknownPepper()
    if (count > 0) {
      log.error(
        { keys: count },
        'API keys were made with a pepper that is not known here, and are refused: give it as "pepper", or as one ' +
          'of "previousPeppers"'
      )
    }
  } catch (error) {
    log.warn({ err: error }, 'the store of API keys could not be read')
  }
}

/**
 * Authenticates callers by JWT access token, API key or session. Each is registered as an authenticator
 * of the guard.
 *
 * @throws `MARTY_AUTH_OPT_INVALID` naming the option
 * @example
 * await app.register(auth, { issuer: 'https://cameras.example', audience: 'camera-service', keys: { signing: { kid: '2026-01', algorithm: 'HS256', secret } } })
 * app.get('/cameras', { config: { security: { authenticate: true } } }, async request => request.principal.id)
 */
export const auth: FastifyPluginAsync<AuthOptions> = fp(plugin, { name: '@marty/auth', fastify: '5.x' })
export default auth

export { openFileApiKeyStore } from './api-keys/file-store.js'
export { createRedisApiKeyStore, type RedisApiKeyStoreOptions } from './api-keys/redis-store.js'
export { createMemoryApiKeyStore } from './api-keys/memory-store.js'
export type { Auth } from './auth.js'
export type { ApiKeyOptions } from './api-keys/options.js'
export type { ApiKeyRecord, ApiKeySecret, ApiKeyStore } from './api-keys/store.js'
export {
  createApiKeys, type ApiKeyHooks, type ApiKeyInfo, type ApiKeyRequest, type ApiKeys, type IssuedApiKey
} from './api-keys/api-keys.js'
export {
  AccountLocked, ApiKeyConflict, ApiKeyNotFound, ApiKeyStoreInvalid, AuthBusy, AuthCapacityExceeded,
  AuthGrantUnsupported, AuthOptionInvalid, AuthRequestMalformed, AuthScopeInvalid, AuthStoreUnavailable,
  CredentialRequestInvalid, CsrfInvalid, IssuerUnavailable, SigningKeysInvalid
} from './errors.js'
export type { AuthStore, RedisAuthStore, ResolvedAuthStore } from './store-options.js'
export type { HashGateLimits } from './api-keys/hash-queue.js'
export type { ForeignClaims, TokenClaims } from './jwt/claims.js'
export type { AsymmetricAlgorithmName, JwtAlgorithmName } from './jwt/algorithms.js'
export type {
  JwtKey, JwtKeyOptions, JwtKeysOptions, PrivateKeyOptions, PublicKeyOptions, SecretKeyOptions, SigningKey,
  SigningKeys
} from './jwt/keys.js'
export type { KeyMaterial } from './jwt/key-material.js'
export type { ForeignDoor, ForeignIssuerOptions, ForeignTokenType } from './jwt/trusted-issuers.js'
export { jwksOf, registerJwksRoute, type Jwks, type PublicJwk } from './jwt/jwks.js'
export { openSigningKeys, type SigningKeyRecord, type SigningKeysOptions } from './jwt/signing-keys-file.js'
export { rotateSigningKeys, type RotatedSigningKey, type SigningKeyRotation } from './jwt/signing-keys-rotation.js'
export type { AuthOptions } from './options.js'
export { createLockout, type Lockout, type LockoutSettings } from './lockout/lockout.js'
export type { LockoutOptions } from './lockout/options.js'
export { createMtlsAuthenticator } from './mtls/mtls.js'
export type { MtlsOptions, MtlsService } from './mtls/options.js'
export type { RefreshOptions } from './tokens/refresh/options.js'
export {
  createRefreshTokens, type IssuedRefreshToken, type RefreshGrant, type RefreshTokens, type RefreshTokensOptions,
  type RotatedRefreshToken
} from './tokens/refresh/refresh-tokens.js'
export {
  createRevocations, type RevocableClaims, type Revocations, type RevocationsHealth, type RevocationsOptions
} from './revocations/revocations.js'
export type { SessionCookie, SessionCookieOptions } from './sessions/cookie.js'
export {
  createSessionStore, type IssuedSession, type SessionAbout, type SessionInfo, type Sessions, type SessionStore
} from './sessions/sessions.js'
export type { SessionOptions } from './sessions/options.js'
export type { SessionOwner, SessionRecord } from './sessions/records.js'
export {
  createTokenIssuer, issueToken, type IssuedToken, type TokenIssuer, type TokenRequest
} from './tokens/issuer.js'
export type { TokenOptions } from './jwt/options.js'
export type { Tokens } from './tokens/tokens.js'
export { createTokenVerifier } from './jwt/token-verifier.js'

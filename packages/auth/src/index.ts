import './augment.js'
import { useGuard } from '@marty/core'
import type { FastifyBaseLogger, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import type { ApiKeys } from './api-keys/api-keys.js'
import type { Auth } from './auth.js'
import { createAuthenticators } from './authenticators.js'
import { createAuditHooks, withEvents } from './events.js'
import { registerFastifyJwt } from './jwt/fastify-jwt.js'
import { cacheVerifiedTokens } from './jwt/verified-token-cache.js'
import { resolveOptions, type AuthOptions } from './options.js'
import { registerRoutes } from './routes.js'
import { createServices } from './services.js'
import { createCsrfCheck, sameOriginCheck } from './sessions/csrf.js'
import { checkHandshakes } from './sessions/handshake-origin.js'
import { createTokens } from './tokens/tokens.js'

const LONG_TTL_SECONDS = 3_600

const plugin: FastifyPluginAsync<AuthOptions> = async (fastify, given) => {
  const guard = useGuard(fastify)
  const options = resolveOptions(given)
  const { tokens: tokenOptions, mtls } = options
  const hooks = createAuditHooks(guard)
  const services = createServices(options, hooks, fastify.log)
  const { revocations, apiKeys, sessions, sessionCookie, lockout, trustedIssuers } = services
  const csrf = createCsrfCheck(options.trustedOrigins)
  guard.addCheck(sameOriginCheck(csrf))

  if (tokenOptions.accessTokenTtlSeconds > LONG_TTL_SECONDS) {
    fastify.log.warn(
      { accessTokenTtlSeconds: tokenOptions.accessTokenTtlSeconds },
      'access tokens live longer than an hour: a stolen one stays useful that long'
    )
  }
  await registerFastifyJwt(fastify, tokenOptions, services.verify)
  const tokens = createTokens({ ...services, verify: token => services.verify(token).claims })
  const withAudit = withEvents(guard, { tokens, apiKeys, sessions })
  const auth: Auth = { ...withAudit, sessionCookie: sessions === null ? null : sessionCookie, lockout }
  fastify.decorate('auth', Object.freeze(auth))
  fastify.addHook('onReady', async () => {
    await revocations.start()
    if (apiKeys !== null) await logUnknownPeppers(apiKeys, fastify.log)
  })
  fastify.addHook('onClose', async () => { await services.close() })

  const authenticators = createAuthenticators({
    verifyToken: cacheVerifiedTokens(services.verifyJwt, tokenOptions.keyring),
    trustedIssuers,
    revocations,
    apiKeys,
    sessions: sessions === null ? null : { guard, sessions, revocations, cookie: sessionCookie, csrf },
    mtls,
    onVerified: hooks.onVerified
  })
  for (const authenticator of authenticators) guard.addAuthenticator(authenticator)
  if (sessions !== null) checkHandshakes(fastify, guard, sessionCookie, csrf)
  if (options.routes !== null) {
    const methods = authenticators.map(({ method }) => method)
    registerRoutes(fastify, { guard, services, options, methods, sessions: withAudit.sessions })
  }
}

/**
 * Logs an error when keys were made with an unknown pepper. Clients only see that their keys are
 * refused, so the operator has to learn the cause from the log.
 */
async function logUnknownPeppers (apiKeys: ApiKeys, log: FastifyBaseLogger): Promise<void> {
  try {
    const count = await apiKeys.countWithUnknownPepper()
    if (count > 0) {
      log.error(
        { keys: count },
        'API keys were made with a pepper that is not configured here, and are refused: add it as "pepper", or to ' +
          '"previousPeppers"'
      )
    }
  } catch (error) {
    log.warn({ err: error }, 'the store of API keys cannot be read')
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

export type { Auth } from './auth.js'
export type { AuthOptions } from './options.js'
export * from './errors.js'
export * from './api-keys/index.js'
export * from './jwt/index.js'
export * from './sessions/index.js'
export { registerJwksRoute } from './jwt/jwks-route.js'
export type { TrustedIssuerClaims } from './jwt/claims.js'
export type { TrustedIssuerOptions, TrustedIssuerTokenType, TrustedIssuerVerifier } from './jwt/trusted-issuers.js'
export { createLockout, type Lockout, type LockoutSettings } from './lockout/lockout.js'
export type { LockoutOptions } from './lockout/options.js'
export { createMtlsAuthenticator } from './mtls/mtls.js'
export type { MtlsOptions, MtlsService } from './mtls/options.js'
export type { ResolvedAuthStore } from './store-options.js'
export {
  createRevocations, type RevocableClaims, type Revocations, type RevocationsHealth, type RevocationsOptions
} from './revocations/revocations.js'
export type { RefreshOptions } from './tokens/refresh/options.js'
export {
  createRefreshTokens, type IssuedRefreshToken, type RefreshGrant, type RefreshTokens, type RefreshTokensOptions,
  type RotatedRefreshToken
} from './tokens/refresh/refresh-tokens.js'
export type { Tokens } from './tokens/tokens.js'

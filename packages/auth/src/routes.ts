import type { AuthenticationMethod, Guard } from '@marty/core'
import type { FastifyInstance } from 'fastify'
import { registerJwksRoute } from './jwt/jwks-route.js'
import type { ResolvedAuthOptions } from './options.js'
import type { AuthServices } from './services.js'
import { registerSessionRoutes } from './sessions/routes.js'
import type { Sessions } from './sessions/sessions.js'
import {
  createAssertionAuthenticator, createRefreshAuthenticator, type CredentialEnd
} from './tokens/routes/authenticators.js'
import { registerMeRoute } from './tokens/routes/me.js'
import type { RefreshParts } from './tokens/routes/parts.js'
import { registerTokenRoutes } from './tokens/routes/register.js'

export interface RouteParts {
  readonly guard: Guard
  readonly services: AuthServices
  readonly options: ResolvedAuthOptions
  /** The sessions that report what they do; null when sessions are turned off. */
  readonly sessions: Sessions | null
  /** The authentication methods that the guard supports. */
  readonly methods: readonly AuthenticationMethod[]
}

/** Registers the routes under `/auth` and, with asymmetric keys, `GET /.well-known/jwks.json`. */
export function registerRoutes (fastify: FastifyInstance, parts: RouteParts): void {
  const { guard, services, options, sessions, methods } = parts
  const { trustedIssuers, revocations, sessionCookie } = services
  const refresh = refreshParts(parts)
  if (refresh !== null) guard.addAuthenticator(refresh.authenticator)
  if (trustedIssuers !== null) {
    guard.addAuthenticator(createAssertionAuthenticator(trustedIssuers.verifyAssertion, revocations))
  }
  registerMeRoute(fastify)
  registerJwksRoute(fastify, options.tokens.keyring)
  if (sessions !== null) {
    registerSessionRoutes(fastify, { sessions, cookie: sessionCookie, idleMs: options.sessionLimits.idleMs, methods })
  }
  registerTokenRoutes(fastify, {
    ...services,
    guard,
    verify: token => services.verify(token).claims,
    refresh,
    cookie: sessions === null ? null : sessionCookie,
    methods,
    introspection: options.routes?.introspection ?? null
  })
}

function refreshParts ({ guard, services: { refreshTokens, apiKeys }, options }: RouteParts): RefreshParts | null {
  if (refreshTokens === null) return null
  const endOf: CredentialEnd = source => {
    return source.authenticatedBy === 'apiKey' && apiKeys !== null ? apiKeys.endsAt(source) : source.expiresAt
  }
  return {
    tokens: refreshTokens,
    authenticator: createRefreshAuthenticator(guard, refreshTokens, endOf),
    forClients: options.refresh!.clientCredentials
  }
}

import type { FastifyInstance } from 'fastify'
import { acceptForms } from './form-body.js'
import { registerGrantRoutes } from './grant.js'
import { registerIntrospectionRoute } from './introspect.js'
import { registerLogoutRoute } from './logout.js'
import type { TokenRouteParts } from './parts.js'
import { registerRevokeRoute } from './revoke.js'

/** `POST /auth/token`, `/auth/refresh`, `/auth/logout`, `/auth/revoke` (RFC 7009) and `/auth/introspect` (RFC 7662). */
export function registerTokenRoutes (fastify: FastifyInstance, parts: TokenRouteParts): void {
  void fastify.register(async scope => {
    acceptForms(scope)
    registerGrantRoutes(scope, parts)
    registerLogoutRoute(scope, parts)
    registerRevokeRoute(scope, parts)
    registerIntrospectionRoute(scope, parts)
  })
}

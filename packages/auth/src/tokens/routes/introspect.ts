import type { FastifyInstance } from 'fastify'
import { requiredParameter } from './form-body.js'
import { CLIENT_METHODS, nullIfInvalid, supported, type TokenRouteParts } from './parts.js'

const INACTIVE = Object.freeze({ active: false })

/** Registers `POST /auth/introspect` (RFC 7662), if any caller may use it. */
export function registerIntrospectionRoute (scope: FastifyInstance, parts: TokenRouteParts): void {
  const clientMethods = supported(parts, CLIENT_METHODS)
  const rule = parts.introspection ?? (clientMethods.length === 0 ? null : { authenticate: clientMethods })
  if (rule === null) return
  const security = { sameOrigin: true, ...rule } as const
  scope.post('/auth/introspect', { config: { security } }, async (request, reply) => {
    void reply.header('cache-control', 'no-store')
    const token = requiredParameter(request, 'token')
    return token.startsWith('ref_') ? await refreshTokenState(parts, token) : await accessTokenState(parts, token)
  })
}

async function refreshTokenState ({ guard, refresh }: TokenRouteParts, token: string): Promise<object> {
  const family = await refresh?.tokens.inspect(token) ?? null
  if (family === null || !await guard.isAlive(family.grant.source)) return INACTIVE
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

async function accessTokenState ({ verify }: TokenRouteParts, token: string): Promise<object> {
  const claims = await nullIfInvalid(() => verify(token))
  return claims === null ? INACTIVE : { active: true, token_type: 'access_token', ...claims }
}

import type { Principal } from '@marty/core'
import type { FastifyInstance } from 'fastify'
import { revocableOf } from '../../jwt/claims.js'
import { optionalParameter } from './form-body.js'
import { emitFor, supported, type TokenRouteParts } from './parts.js'

/** Registers `POST /auth/logout`, which ends the caller's token or session, or everything of the caller. */
export function registerLogoutRoute (scope: FastifyInstance, parts: TokenRouteParts): void {
  const { guard, revocations, refresh, sessions, cookie } = parts
  const security = { sameOrigin: true, authenticate: supported(parts, ['jwt', 'session']) } as const

  scope.post('/auth/logout', { config: { security } }, async (request, reply) => {
    const { principal } = request
    const { everywhere } = (request.body ?? {}) as { everywhere?: unknown }
    const isEverywhere = everywhere === true || everywhere === 'true'
    const refreshToken = optionalParameter(request, 'refresh_token')
    if (principal.authenticatedBy === 'jwt') await signOut(parts, principal)
    else if (principal.session !== null) await sessions?.revokeByKey(principal.session)
    if (refreshToken !== null && (await refresh?.tokens.inspect(refreshToken))?.grant.subject === principal.id) {
      await refresh?.tokens.revoke(refreshToken)
    }
    if (isEverywhere) {
      await revocations.revokeSubject(principal.id)
      await sessions?.revokeAll(principal)
    }
    const action = isEverywhere ? 'session.revoke_all' : 'session.revoke'
    emitFor(guard, request, { type: 'session', action, object: principal.session ?? principal.id, principal })
    if (cookie !== null && principal.authenticatedBy === 'session') void reply.header('set-cookie', cookie.cleared)
    return await reply.code(204).send()
  })
}

/**
 * Revokes a token and the session it belongs to: a family of refresh tokens, or the session at its
 * issuer.
 */
async function signOut ({ revocations, refresh }: TokenRouteParts, principal: Principal): Promise<void> {
  const { jti, iat, sid, issuerSession } = revocableOf(principal)
  await revocations.revokeToken(jti, principal.expiresAt!)
  if (issuerSession !== undefined) await revocations.revokeIssuerSession(issuerSession, iat)
  if (sid === undefined) return
  await refresh?.tokens.revokeFamily(sid)
  // Revoke the access tokens even if the refresh tokens have already ended.
  await revocations.revokeFamily(sid)
}

import { CredentialInvalid, type Principal } from '@marty/core'
import type { FastifyInstance } from 'fastify'
import { AuthRequestMalformed } from '../../errors.js'
import { principalOfClaims, revocableOf } from '../../jwt/claims.js'
import { requiredParameter } from './form-body.js'
import { CREDENTIAL_IN_BODY, emitFor, nullIfInvalid, type TokenRouteParts } from './parts.js'

/** A credential that was revoked. */
interface Revoked {
  readonly object: string
  readonly owner: Pick<Principal, 'id' | 'kind' | 'roles'>
}

/**
 * Registers `POST /auth/revoke` (RFC 7009). Any holder of a token may revoke it (section 2.1, public
 * clients). The response is the same for any other string.
 */
export function registerRevokeRoute (scope: FastifyInstance, parts: TokenRouteParts): void {
  scope.post('/auth/revoke', CREDENTIAL_IN_BODY, async (request, reply) => {
    const token = requiredParameter(request, 'token')
    if (parts.apiKeys?.accepts(token) === true) {
      throw new AuthRequestMalformed('API keys cannot be revoked here; use the key administration of the service')
    }
    const revoked = await revoke(parts, token)
    if (revoked !== null) {
      const { object, owner } = revoked
      emitFor(parts.guard, request, { type: 'credential', action: 'token.revoke', object, principal: owner })
    }
    return await reply.code(200).header('cache-control', 'no-store').send()
  })
}

/** Revokes a session, a refresh token or an access token; null when the string is none of them. */
async function revoke (parts: TokenRouteParts, token: string): Promise<Revoked | null> {
  if (token.startsWith('ses_')) return await revokeSession(parts, token)
  if (token.startsWith('ref_')) return await revokeRefreshToken(parts, token)
  const principal = await nullIfInvalid(async () => await verify(parts, token))
  if (principal === null) return null
  await parts.revocations.revokeToken(principal.session!, principal.expiresAt!)
  return { object: principal.session!, owner: principal }
}

async function revokeSession ({ sessions }: TokenRouteParts, id: string): Promise<Revoked | null> {
  const principal = (await sessions?.get(id)) ?? null
  if (principal === null || !await sessions!.revoke(id)) return null
  return { object: principal.session!, owner: principal }
}

async function revokeRefreshToken ({ refresh }: TokenRouteParts, token: string): Promise<Revoked | null> {
  const family = (await refresh?.tokens.revoke(token)) ?? null
  if (family === null) return null
  const { sid, grant: { subject, kind, roles } } = family
  return { object: sid, owner: { id: subject, kind, roles } }
}

/** Returns the principal of a valid token of this service or of a trusted issuer. */
async function verify (
  { verify: verifyOwn, trustedIssuers, revocations }: TokenRouteParts,
  token: string
): Promise<Principal> {
  if (trustedIssuers?.concerns(token) !== true) return principalOfClaims(verifyOwn(token))
  const principal = await trustedIssuers.verifyAssertion(token)
  if (revocations.isRevoked(revocableOf(principal))) throw new CredentialInvalid({ reason: 'revoked' })
  return principal
}

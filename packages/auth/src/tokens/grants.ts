import {
  CredentialInvalid, ANONYMOUS, createCall, type AuthenticationMethod, type Authenticator, type Guard, type Principal
} from '@marty/core'
import type { FastifyRequest } from 'fastify'
import { revocableOf } from '../jwt/claims.js'
import type { Revocations } from '../revocations/revocations.js'
import type { RefreshTokens, RotatedRefreshToken } from './refresh/refresh-tokens.js'

/** Proves who asks one of the plugin's own routes by a credential that may be in the body. */
export type Prove = (request: FastifyRequest, token: string | null) => Promise<Principal>

/**
 * An operation behind a route that is itself public, because its credential is in the body: the credential passes the
 * same pipeline as any other, so guesses are limited and told alike. Without a token the request's own credential counts.
 */
export function proveBy (guard: Guard, name: string, methods: readonly AuthenticationMethod[]): Prove {
  const operation = guard.operation({
    name,
    transport: 'http',
    rule: { authenticate: methods },
    where: `the credentials of ${name}`
  })
  return async (request, token) => {
    const call = createCall(
      operation!,
      request.id,
      request.ip ?? null,
      token === null ? request.raw : null,
      ANONYMOUS,
      token
    )
    await operation!.run(call)
    return call.principal
  }
}

/** When a principal's credential ends; null for never. Milliseconds since the epoch. */
export type EndOf = (source: Principal) => number | null | Promise<number | null>

export interface RefreshGrantAuthenticator extends Authenticator {
  /** What became of the refresh token that this principal came with. */
  rotationOf (principal: Principal): RotatedRefreshToken
}

/**
 * Uses a refresh token up. Only an operation that names `refresh` can, so that no other route spends one by mistake.
 * `endOf` answers when what signed in ends, as far as that is known now: an API key's secret may end sooner than it said.
 */
export function refreshAuthenticator (guard: Guard, refresh: RefreshTokens, endOf: EndOf): RefreshGrantAuthenticator {
  const rotations = new WeakMap<Principal, RotatedRefreshToken>()
  return {
    method: 'refresh',
    explicit: true,
    unguessable: true,
    find: () => null,
    accepts: () => true,
    async authenticate (token) {
      const rotated = await refresh.rotate(token)
      const { sid, grant } = rotated
      // What signed in then may have been revoked since: a key, a certificate, a session.
      if (!await guard.isAlive(grant.source)) {
        await refresh.revokeFamily(sid)
        throw new CredentialInvalid({ reason: 'source has ended' })
      }
      const expiresAt = Math.min(rotated.expiresAt, await endOf(grant.source) ?? Infinity)
      const principal: Principal = Object.freeze({
        id: grant.subject,
        kind: grant.kind,
        roles: grant.roles,
        scopes: grant.scopes,
        session: sid,
        claims: Object.freeze({}),
        authenticatedBy: 'refresh',
        expiresAt
      })
      rotations.set(principal, { ...rotated, expiresAt })
      return principal
    },
    rotationOf: principal => rotations.get(principal)!
  }
}

/** Takes a token of a foreign issuer, to be exchanged for one of ours (RFC 7523 section 2.1). */
export function assertionAuthenticator (
  verify: (token: string) => Promise<Principal>,
  revocations: Revocations
): Authenticator {
  return {
    method: 'assertion',
    explicit: true,
    unguessable: true,
    find: () => null,
    accepts: () => true,
    async authenticate (token) {
      const principal = await verify(token)
      if (revocations.isRevoked(revocableOf(principal))) throw new CredentialInvalid({ reason: 'revoked' })
      return Object.freeze({ ...principal, authenticatedBy: 'assertion' as const })
    },
    isAlive: principal => !revocations.isRevoked(revocableOf(principal))
  }
}

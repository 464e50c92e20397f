import {
  CredentialInvalid, ANONYMOUS, createCall, type AuthenticationMethod, type Authenticator, type Guard, type Principal
} from '@marty/core'
import type { FastifyRequest } from 'fastify'
import { revocableOf } from '../../jwt/claims.js'
import type { Revocations } from '../../revocations/revocations.js'
import type { RefreshTokens, RotatedRefreshToken } from '../refresh/refresh-tokens.js'

/**
 * Authenticates the caller of one of the plugin's own routes by a token in the body. Without a token, the
 * credential in the request's headers counts.
 */
export type BodyAuthenticator = (request: FastifyRequest, token: string | null) => Promise<Principal>

/**
 * Defines an operation behind a public route whose credential is in the body. The credential passes the
 * same pipeline as any other, so guesses are limited and reported alike.
 */
export function createBodyAuthenticator (
  guard: Guard,
  name: string,
  methods: readonly AuthenticationMethod[]
): BodyAuthenticator {
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
    const refusal = await operation!.decide(call)
    if (refusal !== undefined) throw refusal
    return call.principal
  }
}

/** Returns when a principal's credential ends, in milliseconds since the epoch; null for never. */
export type CredentialEnd = (source: Principal) => number | null | Promise<number | null>

export interface RefreshGrantAuthenticator extends Authenticator {
  /** Returns the result of the rotation that authenticated this principal. */
  rotationOf (principal: Principal): RotatedRefreshToken
}

/**
 * Authenticates by a refresh token, which is used up. It runs only for operations that name `refresh`,
 * so no other route uses one up by mistake. `endOf` returns when the source credential ends, as far as
 * is known now: a rotation may have brought forward the end of an API key's secret.
 */
export function createRefreshAuthenticator (
  guard: Guard,
  refreshTokens: RefreshTokens,
  endOf: CredentialEnd
): RefreshGrantAuthenticator {
  const rotations = new WeakMap<Principal, RotatedRefreshToken>()
  return {
    method: 'refresh',
    optIn: true,
    unguessable: true,
    find: () => null,
    accepts: () => true,
    async authenticate (token) {
      const rotated = await refreshTokens.rotate(token)
      const { sid, grant } = rotated
      // The source credential (a key, a certificate, a session) may have been revoked since the sign-in.
      if (!await guard.isAlive(grant.source)) {
        await refreshTokens.revokeFamily(sid)
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

/**
 * Authenticates by a token of a trusted issuer, to be exchanged for one of this service (RFC 7523
 * section 2.1).
 */
export function createAssertionAuthenticator (
  verify: (token: string) => Promise<Principal>,
  revocations: Revocations
): Authenticator {
  return {
    method: 'assertion',
    optIn: true,
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

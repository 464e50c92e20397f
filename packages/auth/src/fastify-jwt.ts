import fastifyJwt, { type JWT } from '@fastify/jwt'
import { Unauthenticated } from '@marty/core'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { randomBytes } from 'node:crypto'
import { credentialsOf } from './credentials.js'
import type { ResolvedTokenOptions } from './token-options.js'
import type { VerifiedToken } from './jwt-door.js'

/**
 * Registers @fastify/jwt with our keys, issuer and audience, so that `fastify.jwt`, `request.jwtVerify()` and
 * `request.user` work as its users know them, with every token passing our door first.
 */
export async function registerFastifyJwt (fastify: FastifyInstance, options: ResolvedTokenOptions, verify: (token: string) => VerifiedToken): Promise<void> {
  const { issuer, audience, keyring, accessTokenTtlSeconds } = options
  const secretOf = (kid: string): Buffer => keyring.byId.get(kid)!.key.export()
  const verified = new WeakMap<FastifyRequest, string>()

  await fastify.register(fastifyJwt, {
    secret: {
      private: keyring.signing.key.export(),
      // The door ran just before, in extractToken, and knows which key signed.
      public: (request: FastifyRequest, _token: unknown, done: (error: Error | null, secret: Buffer | undefined) => void) => {
        const kid = verified.get(request)
        if (kid === undefined) done(new Unauthenticated({ headers: { 'www-authenticate': 'Bearer' } }), undefined)
        else done(null, secretOf(kid))
      }
    },
    sign: { algorithm: keyring.signing.alg, iss: issuer, aud: audience, expiresIn: accessTokenTtlSeconds, kid: keyring.signing.kid, header: { alg: keyring.signing.alg, typ: 'at+jwt', kid: keyring.signing.kid } },
    verify: {
      algorithms: [keyring.signing.alg],
      allowedIss: issuer,
      allowedAud: audience,
      requiredClaims: ['iss', 'aud', 'sub', 'exp', 'iat', 'jti'],
      cache: false,
      extractToken (request: FastifyRequest) {
        const { bearer } = credentialsOf(request.raw)
        if (bearer === null) throw new Unauthenticated({ headers: { 'www-authenticate': 'Bearer' } })
        verified.set(request, verify(bearer).kid)
        return bearer
      }
    }
  })

  const { sign } = fastify.jwt
  const guarded: Pick<JWT, 'sign' | 'verify'> = {
    // Our door wants a `jti` in every token, and fast-jwt cannot make one per token.
    sign: ((payload: unknown, ...rest: unknown[]) => (sign as (...args: unknown[]) => unknown)(withTokenId(payload), ...rest)) as JWT['sign'],
    verify: ((token: string, ...rest: unknown[]) => {
      const { claims } = verify(token)
      const callback = rest.findLast(argument => typeof argument === 'function') as ((error: null, claims: unknown) => void) | undefined
      return callback === undefined ? claims : callback(null, claims)
    }) as JWT['verify']
  }
  Object.assign(fastify.jwt, guarded)
}

function withTokenId (payload: unknown): unknown {
  if (typeof payload !== 'object' || payload === null || 'jti' in payload) return payload
  return { ...payload, jti: randomBytes(16).toString('base64url') }
}

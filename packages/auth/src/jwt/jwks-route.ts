import type { FastifyInstance } from 'fastify'
import { jwksOf } from './jwks.js'
import { resolveKeys, type JwtKeysOptions, type SigningKeys } from './keys.js'

/**
 * Registers `GET /.well-known/jwks.json`: the public keys for verifying this service's tokens, open to
 * any caller and cacheable for five minutes. Registers nothing when the keys are symmetric.
 */
export function registerJwksRoute (fastify: FastifyInstance, keys: JwtKeysOptions | SigningKeys): void {
  const keyring = resolveKeys(keys)
  if (keyring.kind === 'symmetric') return
  fastify.get('/.well-known/jwks.json', { config: { security: { public: true } } }, async (_request, reply) => {
    return await reply
      .type('application/jwk-set+json')
      .header('cache-control', 'public, max-age=300')
      .send(JSON.stringify(jwksOf(keyring)))
  })
}

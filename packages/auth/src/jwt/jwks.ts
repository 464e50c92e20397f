import { resolveKeys, type JwtKeysOptions, type SigningKeys } from './keys.js'

/**
 * A public key with which other services verify this service's tokens (RFC 7517, RFC 7518 section 6,
 * RFC 8037).
 */
export interface PublicJwk {
  readonly kty: string
  readonly kid: string
  readonly alg: string
  readonly use: 'sig'
  readonly crv?: string
  readonly x?: string
  readonly y?: string
  readonly n?: string
  readonly e?: string
}

export interface Jwks {
  readonly keys: readonly PublicJwk[]
}

/**
 * Returns the public halves of all keys, including those that do not sign yet. For symmetric keys the
 * set is empty.
 */
export function jwksOf (keys: JwtKeysOptions | SigningKeys): Jwks {
  const keyring = resolveKeys(keys)
  if (keyring.kind === 'symmetric') return { keys: [] }
  return {
    keys: keyring
      .all()
      .map(({ kid, alg, verifyKey }) => ({
        ...(verifyKey.export({ format: 'jwk' }) as { kty: string }),
        kid,
        alg,
        use: 'sig'
      }))
  }
}

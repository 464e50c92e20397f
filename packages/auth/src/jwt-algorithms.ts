import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto'
import { AuthOptionInvalid } from './errors.js'

/** Algorithms a key can be bound to. */
export type JwtAlgorithmName = 'HS256'

/** What it takes to make a key for one algorithm, and to use it. The algorithm is never read from a token or a key's text. */
export interface JwtAlgorithm {
  /** Symmetric and asymmetric keys never meet in one verifier. */
  readonly kind: 'symmetric' | 'asymmetric'
  /** Throws `MARTY_AUTH_OPT_INVALID` for material that is too weak; `field` names it. */
  createKey (field: string, material: Buffer): KeyObject
  sign (key: KeyObject, input: string): Buffer
  verify (key: KeyObject, input: string, signature: Buffer): boolean
}

/** By name, without a prototype: a lookup by a stranger's text finds nothing it should not. */
export const JWT_ALGORITHMS: Readonly<Record<JwtAlgorithmName, JwtAlgorithm>> = Object.freeze({
  __proto__: null as never,
  HS256: hmac('sha256', 32)
})

function hmac (hash: string, sizeBytes: number): JwtAlgorithm {
  const sign = (key: KeyObject, input: string): Buffer => createHmac(hash, key).update(input, 'ascii').digest()
  return {
    kind: 'symmetric',
    createKey (field, material) {
      // RFC 7518 section 3.2: a key at least as long as the hash.
      if (material.length < sizeBytes) throw new AuthOptionInvalid(`auth option "${field}" has ${material.length} bytes and needs at least ${sizeBytes}; make one with: openssl rand -base64 48`)
      return createSecretKey(material)
    },
    sign,
    verify (key, input, signature) {
      const expected = sign(key, input)
      return expected.length === signature.length && timingSafeEqual(expected, signature)
    }
  }
}

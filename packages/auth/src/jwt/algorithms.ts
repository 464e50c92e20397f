import { constants, createHmac, sign, timingSafeEqual, verify, type KeyObject } from 'node:crypto'
import { hasFactorableModulus } from './roca.js'

/** Algorithms of keys with a public half (RFC 7518 section 3, RFC 8037). */
export type AsymmetricAlgorithmName = 'ES256' | 'EdDSA' | 'RS256' | 'PS256'

/** Algorithms a key can be bound to. */
export type JwtAlgorithmName = 'HS256' | AsymmetricAlgorithmName

/**
 * The implementation of one algorithm. The algorithm is never read from a token or from the text of a
 * key.
 */
export interface JwtAlgorithm {
  /** Symmetric and asymmetric keys are never used in the same verifier. */
  readonly kind: 'symmetric' | 'asymmetric'
  /** Returns why a private or public key does not fit this algorithm; null when it does. */
  flawOf (key: KeyObject): string | null
  sign (key: KeyObject, input: string): Buffer
  verify (key: KeyObject, input: string, signature: Buffer): boolean
}

/**
 * The algorithms by name. The object has no prototype, because names from untrusted tokens are looked
 * up in it.
 */
export const JWT_ALGORITHMS: Readonly<Record<JwtAlgorithmName, JwtAlgorithm>> = Object.freeze({
  __proto__: null as never,
  HS256: {
    kind: 'symmetric',
    // RFC 7518 section 3.2: the key must be at least as long as the hash.
    flawOf: ({ symmetricKeySize: bytes = 0 }) =>
      bytes >= 32 ? null : `has ${bytes} bytes and needs at least 32; make one with: openssl rand -base64 48`,
    sign: hmacSha256,
    verify (key, input, signature) {
      const expected = hmacSha256(key, input)
      return expected.length === signature.length && timingSafeEqual(expected, signature)
    }
  },
  ES256: asymmetric({
    digest: 'sha256',
    // RFC 7518 section 3.4: the signature is R and S concatenated, not DER.
    parameters: { dsaEncoding: 'ieee-p1363' },
    signatureBytes: () => 64,
    flawOf: ({ asymmetricKeyType: type, asymmetricKeyDetails: details }) =>
      type === 'ec' && details?.namedCurve === 'prime256v1' ? null : 'must be an EC key on the curve P-256'
  }),
  EdDSA: asymmetric({
    digest: null,
    parameters: {},
    signatureBytes: () => 64,
    flawOf: ({ asymmetricKeyType: type }) => (type === 'ed25519' ? null : 'must be an Ed25519 key')
  }),
  RS256: asymmetric({
    digest: 'sha256',
    parameters: { padding: constants.RSA_PKCS1_PADDING },
    signatureBytes: modulusBytes,
    flawOf: rsaFlaw
  }),
  PS256: asymmetric({
    digest: 'sha256',
    // RFC 7518 section 3.5: the salt is as long as the hash.
    parameters: { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 },
    signatureBytes: modulusBytes,
    flawOf: rsaFlaw
  })
})

interface Asymmetric {
  readonly digest: string | null
  readonly parameters: { readonly dsaEncoding?: 'ieee-p1363', readonly padding?: number, readonly saltLength?: number }
  readonly signatureBytes: (key: KeyObject) => number
  readonly flawOf: (key: KeyObject) => string | null
}

function asymmetric ({ digest, parameters, signatureBytes, flawOf }: Asymmetric): JwtAlgorithm {
  return {
    kind: 'asymmetric',
    flawOf,
    sign: (key, input) => sign(digest, Buffer.from(input, 'latin1'), { key, ...parameters }),
    verify: (key, input, signature) =>
      signature.length === signatureBytes(key) &&
      verify(digest, Buffer.from(input, 'latin1'), { key, ...parameters }, signature)
  }
}

function hmacSha256 (key: KeyObject, input: string): Buffer {
  return createHmac('sha256', key).update(input, 'latin1').digest()
}

function modulusBytes (key: KeyObject): number {
  return Math.ceil(key.asymmetricKeyDetails!.modulusLength! / 8)
}

function rsaFlaw (key: KeyObject): string | null {
  const { asymmetricKeyType: type, asymmetricKeyDetails: { modulusLength = 0, publicExponent = 0n } = {} } = key
  if (type !== 'rsa') return 'must be an RSA key'
  // Verifying with a larger key is slow enough for another issuer's key set to stall the service.
  if (modulusLength < 2048 || modulusLength > 8192) {
    return `has a modulus of ${modulusLength} bits; 2048 to 8192 are accepted, 3072 advised`
  }
  if (publicExponent < 3n || publicExponent % 2n === 0n) return 'has a public exponent that is even or below 3'
  return hasFactorableModulus(key)
    ? 'comes from a generator whose keys can be factored (ROCA, CVE-2017-15361); make another'
    : null
}

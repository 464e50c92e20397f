import { createPrivateKey, createPublicKey, createSecretKey, KeyObject, type JsonWebKey } from 'node:crypto'
import { JWT_ALGORITHMS, type JwtAlgorithmName } from './algorithms.js'
import { weaknessOf } from './secret-strength.js'

/** Creates the error for an invalid member of a key option. */
export type KeyRefusal = (member: string, reason: string) => Error

/** An asymmetric key: a KeyObject, PEM text or a JWK (RFC 7517). */
export type KeyMaterial = KeyObject | string | JsonWebKey

/**
 * Creates a symmetric key. Text that is another kind of key, such as a public key in PEM, is refused:
 * anyone who has the public key could sign with it (CVE-2023-48223 and its successors).
 */
export function secretKey (secret: unknown, refuse: KeyRefusal): KeyObject {
  if (typeof secret !== 'string' && !Buffer.isBuffer(secret)) throw refuse('secret', 'must be a string or a Buffer')
  const bytes = Buffer.from(secret as string)
  if (isOtherKind(bytes)) {
    throw refuse('secret', 'is a PEM, DER or JSON document; give random bytes, or the algorithm the key was made for')
  }
  const key = fit(createSecretKey(bytes), 'HS256', 'secret', refuse)
  const weakness = weaknessOf(bytes)
  if (weakness !== null) throw refuse('secret', weakness)
  return key
}

export function privateKey (material: unknown, alg: JwtAlgorithmName, refuse: KeyRefusal): KeyObject {
  return fit(read(material, 'private', alg, 'privateKey', refuse), alg, 'privateKey', refuse)
}

export function publicKey (material: unknown, alg: JwtAlgorithmName, refuse: KeyRefusal): KeyObject {
  return fit(read(material, 'public', alg, 'publicKey', refuse), alg, 'publicKey', refuse)
}

function fit (key: KeyObject, alg: JwtAlgorithmName, member: string, refuse: KeyRefusal): KeyObject {
  const flaw = JWT_ALGORITHMS[alg].flawOf(key)
  if (flaw !== null) throw refuse(member, flaw)
  return key
}

function read (
  material: unknown,
  type: 'private' | 'public',
  alg: JwtAlgorithmName,
  member: string,
  refuse: KeyRefusal
): KeyObject {
  if (typeof material === 'object' && material !== null && !(material instanceof KeyObject)) {
    const flaw = flawOfJwk(material as JsonWebKey, type, alg)
    if (flaw !== null) throw refuse(member, flaw)
  }
  // Errors must contain neither the key material nor the parser's message.
  const key = parse(material, type)
  if (key === null) throw refuse(member, `must be a ${type} key: a KeyObject, unencrypted PEM or JWK`)
  if (key.type !== type) throw refuse(member, `must be a ${type} key and is a ${key.type} one`)
  return key
}

function parse (material: unknown, type: 'private' | 'public'): KeyObject | null {
  if (material instanceof KeyObject) return material
  const create = type === 'private' ? createPrivateKey : createPublicKey
  try {
    // Node would derive a public key from a private one, and the secret would remain in a place meant for
    // public keys.
    if (typeof material === 'string') {
      return type === 'public' && material.includes('PRIVATE KEY') ? createPrivateKey(material) : create(material)
    }
    return create({ key: { ...material as JsonWebKey }, format: 'jwk' })
  } catch {
    return null
  }
}

/** Checks that `use`, `key_ops` and `alg` of a JWK allow the intended use (RFC 7517 sections 4.2 to 4.4). */
function flawOfJwk (
  { use, key_ops: operations, alg: named, d }: JsonWebKey,
  type: 'private' | 'public',
  alg: JwtAlgorithmName
): string | null {
  const operation = type === 'private' ? 'sign' : 'verify'
  if (use !== undefined && use !== 'sig') return 'is a JWK whose "use" is not "sig"'
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes(operation))) {
    return `is a JWK whose "key_ops" do not include "${operation}"`
  }
  if (named !== undefined && named !== alg) return `is a JWK whose "alg" is not "${alg}"`
  return type === 'public' && d !== undefined ? 'is a JWK with its private half' : null
}

function isOtherKind (bytes: Buffer): boolean {
  const text = bytes.toString('latin1')
  return text.includes('-----BEGIN') || /"kty"/i.test(text) || isJsonDocument(bytes.toString()) || isDer(bytes)
}

function isJsonDocument (text: string): boolean {
  try {
    return typeof JSON.parse(text.replace(/^\uFEFF/, '')) === 'object'
  } catch {
    return false
  }
}

function isDer (bytes: Buffer): boolean {
  return [
    () => createPublicKey({ key: bytes, format: 'der', type: 'spki' }),
    () => createPublicKey({ key: bytes, format: 'der', type: 'pkcs1' }),
    () => createPrivateKey({ key: bytes, format: 'der', type: 'pkcs8' })
  ].some(parse => {
    try {
      return parse().type !== 'secret'
    } catch {
      return false
    }
  })
}

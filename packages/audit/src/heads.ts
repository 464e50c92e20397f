import { createHash, createPublicKey, sign, verify, type KeyObject } from 'node:crypto'
import { parseObject, type ChainHead } from './chain.js'

/** A signed checkpoint: the end of the chain at a point in time. Any later change of the log contradicts it. */
export interface SignedHead extends ChainHead {
  /** UTC, ISO 8601 with milliseconds. */
  readonly time: string
  /** JWK thumbprint (RFC 7638, SHA-256, base64url) of the public key. */
  readonly key_id: string
  /** Ed25519 signature (RFC 8032) over label, `seq`, `hash`, `time` and `key_id`, one per line; base64url. */
  readonly signature: string
}

/** Domain separation: a signature made for another purpose is never valid for a head. */
const LABEL = 'marty-audit-head-v1'

export function keyIdOf (publicKey: KeyObject): string {
  const { crv, kty, x } = publicKey.export({ format: 'jwk' })
  return createHash('sha256').update(JSON.stringify({ crv, kty, x })).digest('base64url')
}

/** Creates a function that signs heads with an Ed25519 private key. */
export function createSigner (privateKey: KeyObject): (head: ChainHead) => SignedHead {
  const keyId = keyIdOf(createPublicKey(privateKey))
  return ({ seq, hash }) => {
    const unsigned = { seq, hash, time: new Date().toISOString(), key_id: keyId }
    return { ...unsigned, signature: sign(null, textOf(unsigned), privateKey).toString('base64url') }
  }
}

/** Whether a head was signed with the private key that belongs to this public key. */
export function verifyHead (head: SignedHead, publicKey: KeyObject): boolean {
  return head.key_id === keyIdOf(publicKey) && hasSignature(head, publicKey)
}

/** Like `verifyHead`, with several keys by id. */
export function isSignedBy (head: SignedHead, keys: ReadonlyMap<string, KeyObject>): boolean {
  const key = keys.get(head.key_id)
  return key !== undefined && hasSignature(head, key)
}

/** Parses a line of a heads file; null for any other string. */
export function parseHead (line: string): SignedHead | null {
  const head = parseObject(line)
  if (head === null) return null
  const { seq, hash, time, key_id: keyId, signature } = head
  const fits = Number.isSafeInteger(seq) && [hash, time, keyId, signature].every(value => typeof value === 'string')
  return fits ? head as unknown as SignedHead : null
}

function hasSignature (head: SignedHead, publicKey: KeyObject): boolean {
  return verify(null, textOf(head), publicKey, Buffer.from(head.signature, 'base64url'))
}

function textOf ({ seq, hash, time, key_id: keyId }: Omit<SignedHead, 'signature'>): Buffer {
  return Buffer.from([LABEL, seq, hash, time, keyId].join('\n'))
}

import { createHash, createPublicKey, sign, verify, type KeyObject } from 'node:crypto'
import { parseObject, type ChainHead } from '../chain.js'

/** A signed checkpoint: the end of the chain at a point in time. Any later change of the log contradicts it. */
export interface SignedCheckpoint extends ChainHead {
  /** UTC, ISO 8601 with milliseconds. */
  readonly time: string
  /** JWK thumbprint (RFC 7638, SHA-256, base64url) of the public key. */
  readonly key_id: string
  /** Ed25519 signature (RFC 8032) over label, `seq`, `hash`, `time` and `key_id`, one per line; base64url. */
  readonly signature: string
}

/**
 * Domain separation: a signature made for another purpose is never valid for a checkpoint. The checkpoints of existing
 * logs are signed with this label, so it must not change.
 */
const LABEL = 'marty-audit-head-v1'

/**
 * The file beside a log that holds its checkpoints, one JSON object per line. The checkpoints of existing logs have
 * this suffix (a checkpoint is a signed head of the chain), so it must not change.
 */
export function checkpointsFileOf (log: string): string {
  return `${log}.heads`
}

export function keyIdOf (publicKey: KeyObject): string {
  const { crv, kty, x } = publicKey.export({ format: 'jwk' })
  return createHash('sha256').update(JSON.stringify({ crv, kty, x })).digest('base64url')
}

/** Creates a function that signs checkpoints with an Ed25519 private key. */
export function createSigner (privateKey: KeyObject): (head: ChainHead) => SignedCheckpoint {
  const keyId = keyIdOf(createPublicKey(privateKey))
  return ({ seq, hash }) => {
    const unsigned = { seq, hash, time: new Date().toISOString(), key_id: keyId }
    return { ...unsigned, signature: sign(null, textOf(unsigned), privateKey).toString('base64url') }
  }
}

/** Whether a checkpoint was signed with the private key that belongs to this public key. */
export function verifyCheckpoint (checkpoint: SignedCheckpoint, publicKey: KeyObject): boolean {
  return checkpoint.key_id === keyIdOf(publicKey) && hasSignature(checkpoint, publicKey)
}

/** Like `verifyCheckpoint`, with several keys by id. */
export function isSignedBy (checkpoint: SignedCheckpoint, keys: ReadonlyMap<string, KeyObject>): boolean {
  const key = keys.get(checkpoint.key_id)
  return key !== undefined && hasSignature(checkpoint, key)
}

/** Parses a line of a checkpoints file; null for any other string. */
export function parseCheckpoint (line: string): SignedCheckpoint | null {
  const checkpoint = parseObject(line)
  if (checkpoint === null) return null
  const { seq, hash, time, key_id: keyId, signature } = checkpoint
  const fits = Number.isSafeInteger(seq) && [hash, time, keyId, signature].every(value => typeof value === 'string')
  return fits ? checkpoint as unknown as SignedCheckpoint : null
}

function hasSignature (checkpoint: SignedCheckpoint, publicKey: KeyObject): boolean {
  return verify(null, textOf(checkpoint), publicKey, Buffer.from(checkpoint.signature, 'base64url'))
}

function textOf ({ seq, hash, time, key_id: keyId }: Omit<SignedCheckpoint, 'signature'>): Buffer {
  return Buffer.from([LABEL, seq, hash, time, keyId].join('\n'))
}

import { createHmac, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import type { AsymmetricAlgorithmName, JwtAlgorithmName, JwtKeyOptions } from '@marty/auth'
import { encode, SECRET } from './tokens.js'

export interface Pair { readonly privateKey: KeyObject, readonly publicKey: KeyObject }

export const ASYMMETRIC: readonly AsymmetricAlgorithmName[] = ['ES256', 'EdDSA', 'RS256', 'PS256']
export const ALGORITHMS: readonly JwtAlgorithmName[] = ['HS256', ...ASYMMETRIC]

export function pairFor (algorithm: AsymmetricAlgorithmName): Pair {
  if (algorithm === 'ES256') return generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return algorithm === 'EdDSA' ? generateKeyPairSync('ed25519') : generateKeyPairSync('rsa', { modulusLength: 2048 })
}

/** One key pair per algorithm, shared by all tests of a process. */
export const PAIRS: Readonly<Record<AsymmetricAlgorithmName, Pair>> = {
  ES256: pairFor('ES256'), EdDSA: pairFor('EdDSA'), RS256: pairFor('RS256'), PS256: pairFor('PS256')
}

export function signingKey (algorithm: JwtAlgorithmName, kid = 'k1'): JwtKeyOptions {
  return algorithm === 'HS256' ? { kid, algorithm, secret: SECRET } : { kid, algorithm, privateKey: PAIRS[algorithm].privateKey }
}

/** A token with any header and payload and a valid signature. */
export function forgeWith (
  algorithm: JwtAlgorithmName,
  header: unknown,
  payload: unknown,
  key: KeyObject | string = algorithm === 'HS256' ? SECRET : PAIRS[algorithm].privateKey
): string {
  const input = `${encode(header)}.${encode(payload)}`
  return `${input}.${signatureOf(algorithm, input, key).toString('base64url')}`
}

export function signatureOf (algorithm: JwtAlgorithmName, input: string, key: KeyObject | string): Buffer {
  if (algorithm === 'HS256') return createHmac('sha256', key).update(input).digest()
  const bytes = Buffer.from(input)
  if (algorithm === 'EdDSA') return sign(null, bytes, key)
  return sign('sha256', bytes, {
    key,
    ...(algorithm === 'ES256' ? { dsaEncoding: 'ieee-p1363' } as const : {}),
    ...(algorithm === 'PS256' ? { padding: 6, saltLength: 32 } : {})
  } as never)
}

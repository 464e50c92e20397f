import type { KeyObject } from 'node:crypto'
import { AuthOptionInvalid } from './errors.js'
import { JWT_ALGORITHMS, type JwtAlgorithm, type JwtAlgorithmName } from './jwt-algorithms.js'

/** One signing secret. */
export interface JwtKeyOptions {
  /** Names the key in tokens: 1 to 64 of `A-Za-z0-9._-`. */
  readonly kid: string
  readonly algorithm: JwtAlgorithmName
  /** At least 32 bytes for HS256; a string counts as its UTF-8 bytes. */
  readonly secret: Buffer | string
}

export interface JwtKeysOptions {
  /** Signs new tokens, and verifies them. */
  readonly signing: JwtKeyOptions
  /** Keys that still verify tokens issued earlier, during a rotation. @default [] */
  readonly previous?: readonly JwtKeyOptions[]
}

/** A key bound to its one algorithm. */
export interface JwtKey {
  readonly kid: string
  readonly alg: JwtAlgorithmName
  readonly algorithm: JwtAlgorithm
  readonly key: KeyObject
}

export interface Keyring {
  readonly signing: JwtKey
  readonly byId: ReadonlyMap<string, JwtKey>
}

export const KID: RegExp = /^[A-Za-z0-9._-]{1,64}$/

/** Makes typed keys of the options. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function createKeyring (options: JwtKeysOptions): Keyring {
  const given = options as Partial<JwtKeysOptions> | null | undefined
  if (given?.signing === undefined) throw new AuthOptionInvalid('auth option "keys.signing" is required')
  if (given.previous !== undefined && !Array.isArray(given.previous)) throw new AuthOptionInvalid('auth option "keys.previous" must be a list')
  const signing = createKey('keys.signing', given.signing)
  const byId = new Map([[signing.kid, signing]])
  for (const [index, previous] of (given.previous ?? []).entries()) {
    const key = createKey(`keys.previous[${index}]`, previous)
    if (byId.has(key.kid)) throw new AuthOptionInvalid(`auth option "keys.previous[${index}].kid" names a key twice: "${key.kid}"`)
    if (key.algorithm.kind !== signing.algorithm.kind) throw new AuthOptionInvalid(`auth option "keys.previous[${index}].algorithm" mixes symmetric and asymmetric keys`)
    byId.set(key.kid, key)
  }
  return Object.freeze({ signing, byId })
}

function createKey (field: string, options: JwtKeyOptions): JwtKey {
  if (typeof options !== 'object' || options === null) throw new AuthOptionInvalid(`auth option "${field}" must be { kid, algorithm, secret }`)
  if (typeof options.kid !== 'string' || !KID.test(options.kid)) throw new AuthOptionInvalid(`auth option "${field}.kid" must be 1 to 64 of A-Z a-z 0-9 . _ -`)
  const algorithm = JWT_ALGORITHMS[options.algorithm] as JwtAlgorithm | undefined
  if (algorithm === undefined) throw new AuthOptionInvalid(`auth option "${field}.algorithm" must be one of ${Object.keys(JWT_ALGORITHMS).join(', ')}`)
  const { secret } = options
  if (typeof secret !== 'string' && !Buffer.isBuffer(secret)) throw new AuthOptionInvalid(`auth option "${field}.secret" must be a string or a Buffer`)
  return Object.freeze({ kid: options.kid, alg: options.algorithm, algorithm, key: algorithm.createKey(`${field}.secret`, Buffer.from(secret as string)) })
}

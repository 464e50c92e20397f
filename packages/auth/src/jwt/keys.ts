import { createPublicKey, type KeyObject } from 'node:crypto'
import { AuthOptionInvalid } from '../errors.js'
import { JWT_ALGORITHMS, type AsymmetricAlgorithmName, type JwtAlgorithm, type JwtAlgorithmName } from './algorithms.js'
import { privateKey, publicKey, secretKey, type KeyMaterial, type KeyRefusal } from './key-material.js'

/** A secret that signs and verifies. */
export interface SecretKeyOptions {
  /** Names the key in tokens: 1 to 64 of `A-Za-z0-9._-`. */
  readonly kid: string
  readonly algorithm: 'HS256'
  /**
   * Random, at least 32 bytes; a string counts as its UTF-8 bytes. Generate one with
   * `openssl rand -base64 48`.
   */
  readonly secret: Buffer | string
}

/** A key pair: the private half signs, the public half verifies. */
export interface PrivateKeyOptions {
  /** Names the key in tokens: 1 to 64 of `A-Za-z0-9._-`. */
  readonly kid: string
  /** `ES256` (P-256), `EdDSA` (Ed25519), `RS256` or `PS256` (RSA of 2048 to 8192 bits). */
  readonly algorithm: AsymmetricAlgorithmName
  /** A KeyObject, unencrypted PEM, or a JWK whose `use`, `key_ops` and `alg` allow it. */
  readonly privateKey: KeyMaterial
}

/** The public half of a pair whose tokens are still accepted. */
export interface PublicKeyOptions {
  /** Names the key in tokens: 1 to 64 of `A-Za-z0-9._-`. */
  readonly kid: string
  readonly algorithm: AsymmetricAlgorithmName
  readonly publicKey: KeyMaterial
}

/** A key that can sign. It is bound to one algorithm, whatever its text says. */
export type JwtKeyOptions = SecretKeyOptions | PrivateKeyOptions

export interface JwtKeysOptions {
  /** Signs new tokens, and verifies them. */
  readonly signing: JwtKeyOptions
  /**
   * Keys that still verify tokens issued earlier, during a rotation. They must be of the same kind,
   * symmetric or asymmetric.
   * @default []
   */
  readonly previous?: ReadonlyArray<JwtKeyOptions | PublicKeyOptions>
}

/** A key that is bound to one algorithm. */
export interface JwtKey {
  readonly kid: string
  readonly alg: JwtAlgorithmName
  /** Null for a key that only verifies. */
  readonly signKey: KeyObject | null
  readonly verifyKey: KeyObject
}

export interface SigningKey extends JwtKey {
  readonly signKey: KeyObject
}

/** The keys of a service. They are read at each use, because they may change: see `openSigningKeys`. */
export interface SigningKeys {
  readonly kind: JwtAlgorithm['kind']
  /**
   * Returns the key that signs now. Throws `MARTY_AUTH_SIGNING_KEYS_INVALID` when no key is active any
   * more.
   */
  signing (): SigningKey
  /** Returns the key of this name, if tokens signed with it are accepted now. */
  find (kid: string): JwtKey | undefined
  /** Returns every key that verifies, including those that do not sign yet. */
  all (): readonly JwtKey[]
}

export const KID: RegExp = /^[A-Za-z0-9._-]{1,64}$/
/**
 * Other issuers choose their own key names. Some are hashes in plain base64 (RFC 4648 section 4; Amazon
 * Cognito).
 */
export const TRUSTED_ISSUER_KID: RegExp = /^(?:[A-Za-z0-9._-]{1,64}|[A-Za-z0-9+/]{1,86}={0,2})$/

/** Parses and checks the keys of the options. Throws `MARTY_AUTH_OPT_INVALID` naming the field. */
export function resolveKeys (options: JwtKeysOptions | SigningKeys): SigningKeys {
  if (isSigningKeys(options)) return options
  const given = options as Partial<JwtKeysOptions> | null | undefined
  if (given?.signing === undefined) throw new AuthOptionInvalid('auth option "keys.signing" is required')
  if (given.previous !== undefined && !Array.isArray(given.previous)) {
    throw new AuthOptionInvalid('auth option "keys.previous" must be a list')
  }
  const signing = createSigningKey(given.signing, refusalOf('keys.signing'))
  const kind = JWT_ALGORITHMS[signing.alg].kind
  const byId = new Map<string, JwtKey>([[signing.kid, signing]])
  for (const [index, previous] of (given.previous ?? []).entries()) {
    const refuse = refusalOf(`keys.previous[${index}]`)
    const key = createJwtKey(previous, refuse)
    if (byId.has(key.kid)) throw refuse('kid', `is used by two keys: "${key.kid}"`)
    if (JWT_ALGORITHMS[key.alg].kind !== kind) throw refuse('algorithm', 'mixes symmetric and asymmetric keys')
    byId.set(key.kid, key)
  }
  const all = Object.freeze([...byId.values()])
  return Object.freeze({ kind, signing: () => signing, find: (kid: string) => byId.get(kid), all: () => all })
}

export function createSigningKey (options: JwtKeyOptions, refuse: KeyRefusal): SigningKey {
  const { signKey, ...key } = createJwtKey(options, refuse)
  if (signKey === null) throw refuse('privateKey', 'is required: a public key cannot sign')
  return Object.freeze({ ...key, signKey })
}

/**
 * Creates a key that is bound to its algorithm. Throws the error that `refuse` creates when the key is
 * invalid.
 */
export function createJwtKey (
  options: JwtKeyOptions | PublicKeyOptions,
  refuse: KeyRefusal,
  names: RegExp = KID
): JwtKey {
  if (typeof options !== 'object' || options === null) {
    throw refuse('', 'must be { kid, algorithm, secret } or { kid, algorithm, privateKey }')
  }
  const {
    kid, algorithm: alg, secret, privateKey: privateHalf, publicKey: publicHalf
  } = options as Partial<SecretKeyOptions & PrivateKeyOptions & PublicKeyOptions>
  if (typeof kid !== 'string' || !names.test(kid)) throw refuse('kid', 'must be 1 to 64 of A-Z a-z 0-9 . _ -')
  const algorithm = JWT_ALGORITHMS[alg as unknown as JwtAlgorithmName] as JwtAlgorithm | undefined
  if (typeof alg !== 'string' || algorithm === undefined) {
    throw refuse('algorithm', `must be one of ${Object.keys(JWT_ALGORITHMS).join(', ')}`)
  }
  if (algorithm.kind === 'symmetric') {
    const key = secretKey(secret, refuse)
    return Object.freeze({ kid, alg, signKey: key, verifyKey: key })
  }
  if (secret !== undefined) throw refuse('secret', `cannot be used with ${alg as string}; give "privateKey" instead`)
  if (privateHalf === undefined && publicHalf !== undefined) {
    return Object.freeze({ kid, alg, signKey: null, verifyKey: publicKey(publicHalf, alg, refuse) })
  }
  const signKey = privateKey(privateHalf, alg, refuse)
  const verifyKey = createPublicKey(signKey)
  // The private and public members of a JWK may belong to different keys.
  if (!algorithm.verify(verifyKey, kid, algorithm.sign(signKey, kid))) {
    throw refuse('privateKey', 'does not match its own public half')
  }
  return Object.freeze({ kid, alg, signKey, verifyKey })
}

function isSigningKeys (keys: JwtKeysOptions | SigningKeys | null | undefined): keys is SigningKeys {
  return typeof keys?.signing === 'function'
}

function refusalOf (field: string): KeyRefusal {
  return (member, reason) =>
    new AuthOptionInvalid(`auth option "${member === '' ? field : `${field}.${member}`}" ${reason}`)
}

// The subpath `@marty/auth/jwt`: issues and verifies access tokens without Fastify or any other dependency.
export {
  createTokenIssuer, issueToken, type IssuedToken, type TokenIssuer, type TokenRequest
} from '../tokens/issuer.js'
export { createTokenVerifier } from './token-verifier.js'
export { openSigningKeys, type SigningKeyRecord, type SigningKeysOptions } from './signing-keys-file.js'
export { rotateSigningKeys, type RotatedSigningKey, type SigningKeyRotation } from './signing-keys-rotation.js'
export { jwksOf, type Jwks, type PublicJwk } from './jwks.js'
export type { AsymmetricAlgorithmName, JwtAlgorithmName } from './algorithms.js'
export type { TokenClaims } from './claims.js'
export type { KeyMaterial } from './key-material.js'
export type {
  JwtKey, JwtKeyOptions, JwtKeysOptions, PrivateKeyOptions, PublicKeyOptions, SecretKeyOptions, SigningKey,
  SigningKeys
} from './keys.js'
export type { TokenOptions } from './options.js'
export { AuthOptionInvalid, CredentialRequestInvalid, SigningKeysInvalid } from '../errors.js'

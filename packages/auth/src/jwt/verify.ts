import { CredentialInvalid, type MartyError } from '@marty/core'
import { decodeBase64url } from './base64url.js'
import { JWT_ALGORITHMS } from './algorithms.js'
import { readClaims, type ClaimRules, type TokenClaims } from './claims.js'
import { KID, type JwtKey, type SigningKeys } from './keys.js'
import { parseStrictJson, type JsonObject } from './strict-json.js'

export interface JwtVerifierOptions extends ClaimRules {
  readonly keyring: SigningKeys
}

/** A verified token: its frozen claims, and the key that signed it. */
export interface VerifiedToken {
  readonly claims: TokenClaims
  readonly key: JwtKey
}

export type JwtVerifier = (token: string, nowMs?: number) => VerifiedToken

/** The header of a token, not yet verified. */
export interface TokenHeader {
  readonly alg: unknown
  readonly typ: unknown
  readonly kid: string
}

/** The parts of a token in strict base64url, not yet verified. */
export interface TokenParts {
  readonly headerText: string
  /** The signed text: header and payload as received. */
  readonly input: string
  readonly payload: Buffer
  readonly signature: Buffer
}

export const MAX_TOKEN_CHARS: number = 8 * 1024
const MAX_HEADER_CHARS = 1024
const MAX_DEPTH = 8
const MAX_KNOWN_HEADERS = 32
/**
 * Refused header members: they change which key is used, the encoding, or the meaning of the signature
 * (RFC 7515 section 4.1, RFC 7797).
 */
const REFUSED_HEADERS = ['crit', 'zip', 'jku', 'x5u', 'jwk', 'x5c', 'b64'] as const

/**
 * Creates the verifier that every JWT of this service passes. Whatever is wrong with a token, it throws
 * `MARTY_CORE_CREDENTIAL_INVALID`. The error's `cause` names the failed check, for tools and logs,
 * never for the caller.
 */
export function createJwtVerifier (options: JwtVerifierOptions): JwtVerifier {
  const { keyring } = options
  // Tokens of one key have the same header. Its text is parsed once, and cached after a valid signature
  // has covered it.
  const known = new Map<string, TokenHeader>()
  return (token, nowMs = Date.now()) => {
    const parts = splitToken(token)
    const header = known.get(parts.headerText) ?? parseHeader(parts)
    if (header.typ !== 'at+jwt') throw invalidToken(isIssuedBy(options.issuer, parts) ? 'typ' : 'iss')
    const key = keyring.find(header.kid)
    if (key === undefined) throw invalidToken(isIssuedBy(options.issuer, parts) ? 'kid' : 'iss')
    const payload = verifySignature(parts, header, key)
    if (!known.has(parts.headerText)) {
      if (known.size >= MAX_KNOWN_HEADERS) known.clear()
      known.set(parts.headerText, header)
    }
    const claims = readClaims(payload, options, Math.floor(nowMs / 1000))
    if (typeof claims === 'string') throw invalidToken(claims)
    return { claims, key }
  }
}

export function splitToken (token: unknown): TokenParts {
  if (typeof token !== 'string' || token.length > MAX_TOKEN_CHARS) throw invalidToken('size')
  const first = token.indexOf('.')
  const second = token.indexOf('.', first + 1)
  if (first < 1 || second === -1 || token.indexOf('.', second + 1) !== -1) throw invalidToken('segments')
  if (first > MAX_HEADER_CHARS) throw invalidToken('size')
  const payload = decodeBase64url(token.slice(first + 1, second))
  const signature = decodeBase64url(token.slice(second + 1))
  if (payload === null || signature === null) throw invalidToken('base64url')
  return { headerText: token.slice(0, first), input: token.slice(0, second), payload, signature }
}

export function parseHeader ({ headerText }: TokenParts, names: RegExp = KID): TokenHeader {
  const bytes = decodeBase64url(headerText)
  if (bytes === null) throw invalidToken('base64url')
  const header = parseStrictJson(bytes, MAX_DEPTH)
  if (header === null) throw invalidToken('header')
  for (const name of REFUSED_HEADERS) if (Object.hasOwn(header, name)) throw invalidToken(name)
  const { alg, typ, kid } = header
  if (typeof kid !== 'string' || !names.test(kid)) throw invalidToken('kid')
  return { alg, typ, kid }
}

/** Verifies the signature and returns the payload, which is parsed only after that. */
export function verifySignature (
  { input, payload, signature }: TokenParts,
  { alg }: TokenHeader,
  key: JwtKey
): JsonObject {
  if (alg !== key.alg) throw invalidToken('alg')
  if (!JWT_ALGORITHMS[key.alg].verify(key.verifyKey, input, signature)) throw invalidToken('signature')
  return parsePayload(payload)
}

export function parsePayload (payload: Buffer): JsonObject {
  const parsed = parseStrictJson(payload, MAX_DEPTH)
  if (parsed === null) throw invalidToken('payload')
  return parsed
}

/**
 * Whether an unverified token names this issuer. If it does not, that is the best explanation of an
 * unknown `typ` or `kid`.
 */
function isIssuedBy (issuer: string, { payload }: TokenParts): boolean {
  return parseStrictJson(payload, MAX_DEPTH)?.['iss'] === issuer
}

export function invalidToken (check: string): MartyError {
  return new CredentialInvalid({ reason: check, cause: `token check failed: ${check}` })
}

import { CredentialInvalid, type MartyError } from '@marty/core'
import { decodeBase64url } from './base64url.js'
import { JWT_ALGORITHMS } from './algorithms.js'
import { readClaims, type ClaimRules, type TokenClaims } from './claims.js'
import { KID, type JwtKey, type SigningKeys } from './keys.js'
import { parseStrictJson, type JsonObject } from './strict-json.js'

export interface DoorOptions extends ClaimRules {
  readonly keyring: SigningKeys
}

/** A token that passed: its claims, read-only, and the key that signed it. */
export interface VerifiedToken {
  readonly claims: TokenClaims
  readonly key: JwtKey
}

export type TokenDoor = (token: string, nowMs?: number) => VerifiedToken

/** What a token says of itself before anything is proved. */
export interface TokenHeader {
  readonly alg: unknown
  readonly typ: unknown
  readonly kid: string
}

/** A token taken apart, in strict base64url; nothing in it is proved. */
export interface TokenParts {
  readonly headerText: string
  /** What the signature is of: header and payload as they came. */
  readonly input: string
  readonly payload: Buffer
  readonly signature: Buffer
}

export const MAX_TOKEN_CHARS: number = 8 * 1024
const MAX_HEADER_CHARS = 1024
const MAX_DEPTH = 8
const MAX_KNOWN_HEADERS = 32
/** Header members that move the key, the encoding or the meaning of the signature elsewhere (RFC 7515 section 4.1, RFC 7797). */
const REFUSED_HEADERS = ['crit', 'zip', 'jku', 'x5u', 'jwk', 'x5c', 'b64'] as const

/**
 * The only way in for a JWT of this service. Whatever is wrong with a token, and whatever text it is, the door throws
 * the one `MARTY_CORE_CREDENTIAL_INVALID`; its `cause` names the failed check, for tools and logs, never for the caller.
 */
export function createTokenDoor (options: DoorOptions): TokenDoor {
  const { keyring } = options
  // Tokens of one key share their header: its text is read once, and remembered when a signature has covered it.
  const known = new Map<string, TokenHeader>()
  return (token, nowMs = Date.now()) => {
    const parts = takeApart(token)
    const header = known.get(parts.headerText) ?? readHeader(parts)
    if (header.typ !== 'at+jwt') throw refusedToken(isIssuedBy(options.issuer, parts) ? 'typ' : 'iss')
    const key = keyring.find(header.kid)
    if (key === undefined) throw refusedToken(isIssuedBy(options.issuer, parts) ? 'kid' : 'iss')
    const payload = prove(parts, header, key)
    if (!known.has(parts.headerText)) {
      if (known.size >= MAX_KNOWN_HEADERS) known.clear()
      known.set(parts.headerText, header)
    }
    const claims = readClaims(payload, options, Math.floor(nowMs / 1000))
    if (typeof claims === 'string') throw refusedToken(claims)
    return { claims, key }
  }
}

export function takeApart (token: unknown): TokenParts {
  if (typeof token !== 'string' || token.length > MAX_TOKEN_CHARS) throw refusedToken('size')
  const first = token.indexOf('.')
  const second = token.indexOf('.', first + 1)
  if (first < 1 || second === -1 || token.indexOf('.', second + 1) !== -1) throw refusedToken('segments')
  if (first > MAX_HEADER_CHARS) throw refusedToken('size')
  const payload = decodeBase64url(token.slice(first + 1, second))
  const signature = decodeBase64url(token.slice(second + 1))
  if (payload === null || signature === null) throw refusedToken('base64url')
  return { headerText: token.slice(0, first), input: token.slice(0, second), payload, signature }
}

export function readHeader ({ headerText }: TokenParts, names: RegExp = KID): TokenHeader {
  const bytes = decodeBase64url(headerText)
  if (bytes === null) throw refusedToken('base64url')
  const header = parseStrictJson(bytes, MAX_DEPTH)
  if (header === null) throw refusedToken('header')
  for (const name of REFUSED_HEADERS) if (Object.hasOwn(header, name)) throw refusedToken(name)
  const { alg, typ, kid } = header
  if (typeof kid !== 'string' || !names.test(kid)) throw refusedToken('kid')
  return { alg, typ, kid }
}

/** The payload, parsed only when the key's owner wrote it. */
export function prove ({ input, payload, signature }: TokenParts, { alg }: TokenHeader, key: JwtKey): JsonObject {
  if (alg !== key.alg) throw refusedToken('alg')
  if (!JWT_ALGORITHMS[key.alg].verify(key.verifyKey, input, signature)) throw refusedToken('signature')
  return readPayload(payload)
}

export function readPayload (payload: Buffer): JsonObject {
  const parsed = parseStrictJson(payload, MAX_DEPTH)
  if (parsed === null) throw refusedToken('payload')
  return parsed
}

/** What a stranger's token says of its issuer explains best why its type or key is not known here. */
function isIssuedBy (issuer: string, { payload }: TokenParts): boolean {
  return parseStrictJson(payload, MAX_DEPTH)?.['iss'] === issuer
}

export function refusedToken (check: string): MartyError {
  return new CredentialInvalid({ reason: check, cause: `token check failed: ${check}` })
}

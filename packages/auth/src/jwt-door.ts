import { CredentialInvalid, invalidCredential, type MartyError } from '@marty/core'
import { decodeBase64url } from './base64url.js'
import { readClaims, type ClaimRules, type TokenClaims } from './jwt-claims.js'
import { KID, type Keyring } from './jwt-keys.js'
import { parseStrictJson } from './strict-json.js'

export interface DoorOptions extends ClaimRules {
  readonly keyring: Keyring
}

/** A token that passed: its claims, read-only, and the key that signed it. */
export interface VerifiedToken {
  readonly claims: TokenClaims
  readonly kid: string
}

export type TokenDoor = (token: string, nowMs?: number) => VerifiedToken

const MAX_TOKEN_CHARS = 8 * 1024
const MAX_HEADER_CHARS = 1024
const MAX_DEPTH = 8
/** Header members that move the key, the encoding or the meaning of the signature elsewhere (RFC 7515 section 4.1, RFC 7797). */
const REFUSED_HEADERS = ['crit', 'zip', 'jku', 'x5u', 'jwk', 'x5c', 'b64'] as const

/**
 * The only way in for a JWT. Whatever is wrong with a token, and whatever text it is, the door throws the one
 * `MARTY_CORE_CREDENTIAL_INVALID`; its `cause` names the failed check, for tools and logs, never for the caller.
 */
export function createTokenDoor (options: DoorOptions): TokenDoor {
  const { keyring } = options
  return (token, nowMs = Date.now()) => {
    if (typeof token !== 'string' || token.length > MAX_TOKEN_CHARS) throw refused('size')
    const first = token.indexOf('.')
    const second = token.indexOf('.', first + 1)
    if (first < 1 || second === -1 || token.indexOf('.', second + 1) !== -1) throw refused('segments')
    if (first > MAX_HEADER_CHARS) throw refused('size')

    const headerBytes = decodeBase64url(token.slice(0, first))
    const payloadBytes = decodeBase64url(token.slice(first + 1, second))
    const signature = decodeBase64url(token.slice(second + 1))
    if (headerBytes === null || payloadBytes === null || signature === null) throw refused('base64url')

    const header = parseStrictJson(headerBytes, MAX_DEPTH)
    if (header === null) throw refused('header')
    for (const name of REFUSED_HEADERS) if (Object.hasOwn(header, name)) throw refused(name)
    const { alg, typ, kid } = header
    if (typ !== 'at+jwt') throw refused('typ')
    if (typeof kid !== 'string' || !KID.test(kid)) throw refused('kid')
    const key = keyring.byId.get(kid)
    if (key === undefined) throw refused('kid')
    if (alg !== key.alg) throw refused('alg')
    if (!key.algorithm.verify(key.key, token.slice(0, second), signature)) throw refused('signature')

    // Only what a holder of the key wrote is parsed any further.
    const payload = parseStrictJson(payloadBytes, MAX_DEPTH)
    if (payload === null) throw refused('payload')
    const claims = readClaims(payload, options, Math.floor(nowMs / 1000))
    if (typeof claims === 'string') throw refused(claims)
    return { claims, kid }
  }
}

function refused (check: string): MartyError {
  return new CredentialInvalid({ ...invalidCredential, cause: `token check failed: ${check}` })
}

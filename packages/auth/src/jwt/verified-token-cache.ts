import type { Principal } from '@marty/core'
import { principalOfClaims } from './claims.js'
import type { JwtVerifier } from './verify.js'
import type { JwtKey, SigningKeys } from './keys.js'

interface Entry {
  readonly key: JwtKey
  readonly principal: Principal
}

// Most clients send one token per connection, and comparing two strings is cheaper than hashing one.
const kLastToken: unique symbol = Symbol('marty.token')

/** Returns the principal of a token. Throws when the token is not valid. `connection` is the socket that it came on. */
export type TokenVerifier = (token: string, connection: object | null) => Principal

interface Connection {
  [kLastToken]?: { readonly token: string, readonly entry: Entry }
}

/**
 * Caches the principals of repeated tokens, so that they need no signature check: at least the last `maxEntries`
 * tokens, at most twice as many. The key is the whole token, so no two tokens can be confused. A token is verified
 * again when it has expired, or when its key was removed or replaced. The caller must check revocations at every use.
 *
 * A full generation replaces the older one, whose tokens in use move to the new one. Keeping the exact order of use
 * would mean two more operations on the map for each request, each of which hashes the token.
 */
export function cacheVerifiedTokens (
  verify: JwtVerifier,
  keyring: SigningKeys,
  maxEntries: number = 1_000
): TokenVerifier {
  let recent = new Map<string, Entry>()
  let older = new Map<string, Entry>()

  const isUsable = ({ principal, key }: Entry): boolean =>
    principal.expiresAt! > Date.now() && keyring.find(key.kid) === key

  function add (token: string, entry: Entry): Entry {
    recent.set(token, entry)
    if (recent.size >= maxEntries) {
      older = recent
      recent = new Map()
    }
    return entry
  }

  function entryOf (token: string): Entry {
    const newest = recent.get(token)
    const entry = newest ?? older.get(token)
    if (entry !== undefined && isUsable(entry)) return newest ?? add(token, entry)
    recent.delete(token)
    older.delete(token)
    const { claims, key } = verify(token)
    return add(token, { key, principal: principalOfClaims(claims) })
  }

  return (token, connection: Connection | null) => {
    if (connection === null) return entryOf(token).principal
    const last = connection[kLastToken]
    if (last !== undefined && last.token === token && isUsable(last.entry)) return last.entry.principal
    const entry = entryOf(token)
    connection[kLastToken] = { token, entry }
    return entry.principal
  }
}

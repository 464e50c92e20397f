import type { Principal } from '@marty/core'
import { principalOfClaims } from './claims.js'
import type { TokenDoor } from './verify.js'
import type { JwtKey, SigningKeys } from './keys.js'

interface Entry {
  readonly key: JwtKey
  readonly principal: Principal
}

/**
 * The door for callers who come again with the same token: remembers the principals of the last `maxEntries` tokens,
 * by the whole token, so that no two tokens can be taken for each other. An expired token, or one whose key has left
 * the ring or was replaced, goes through the door again. Revocations are the caller's to ask, at every use.
 */
export function rememberVerified (
  door: TokenDoor,
  keyring: SigningKeys,
  maxEntries: number = 1_000
): (token: string) => Principal {
  const entries = new Map<string, Entry>()
  return token => {
    const entry = entries.get(token)
    if (entry !== undefined) {
      entries.delete(token)
      if (entry.principal.expiresAt! > Date.now() && keyring.find(entry.key.kid) === entry.key) {
        // Last in the order of insertion again: the first is the one used longest ago.
        entries.set(token, entry)
        return entry.principal
      }
    }
    const { claims, key } = door(token)
    const principal = principalOfClaims(claims)
    entries.set(token, { key, principal })
    if (entries.size > maxEntries) entries.delete(entries.keys().next().value!)
    return principal
  }
}

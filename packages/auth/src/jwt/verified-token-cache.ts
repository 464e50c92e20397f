import type { Principal } from '@marty/core'
import { principalOfClaims } from './claims.js'
import type { JwtVerifier } from './verify.js'
import type { JwtKey, SigningKeys } from './keys.js'

interface Entry {
  readonly key: JwtKey
  readonly principal: Principal
}

/**
 * Caches the principals of the last `maxEntries` tokens, so that a repeated token needs no signature
 * check. The key is the whole token, so no two tokens can be confused. A token is verified again when
 * it has expired, or when its key was removed or replaced. The caller must check revocations at every
 * use.
 */
export function cacheVerifiedTokens (
  verify: JwtVerifier,
  keyring: SigningKeys,
  maxEntries: number = 1_000
): (token: string) => Principal {
  const entries = new Map<string, Entry>()
  return token => {
    const entry = entries.get(token)
    if (entry !== undefined) {
      entries.delete(token)
      if (entry.principal.expiresAt! > Date.now() && keyring.find(entry.key.kid) === entry.key) {
        // Move the entry to the end of the insertion order: the first one is the least recently used.
        entries.set(token, entry)
        return entry.principal
      }
    }
    const { claims, key } = verify(token)
    const principal = principalOfClaims(claims)
    entries.set(token, { key, principal })
    if (entries.size > maxEntries) entries.delete(entries.keys().next().value!)
    return principal
  }
}

import { createTokenDoor } from './verify.js'
import type { TokenClaims } from './claims.js'
import { resolveTokenOptions, type TokenOptions } from './options.js'

/**
 * Checks access tokens; needs no Fastify and knows no revocations. The function returns the claims, frozen, or
 * throws `MARTY_CORE_CREDENTIAL_INVALID` whatever was wrong; the error's `cause` names the failed check.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 */
export function createTokenVerifier (options: TokenOptions): (token: string, nowMs?: number) => TokenClaims {
  const door = createTokenDoor(resolveTokenOptions(options))
  return (token, nowMs) => door(token, nowMs).claims
}

import { createJwtVerifier } from './verify.js'
import type { TokenClaims } from './claims.js'
import { resolveTokenOptions, type TokenOptions } from './options.js'

/**
 * Creates a verifier of access tokens. It does not need Fastify and does not check revocations. The
 * function returns the frozen claims, or throws `MARTY_CORE_CREDENTIAL_INVALID` whatever is wrong; the
 * error's `cause` names the failed check.
 *
 * @throws `MARTY_AUTH_OPT_INVALID`
 */
export function createTokenVerifier (options: TokenOptions): (token: string, nowMs?: number) => TokenClaims {
  const verify = createJwtVerifier(resolveTokenOptions(options))
  return (token, nowMs) => verify(token, nowMs).claims
}

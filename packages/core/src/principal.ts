/**
 * How a principal proved its identity. `refresh` and `assertion` have a single purpose each: they are accepted only
 * where a rule names them.
 */
export type AuthenticationMethod = 'jwt' | 'apiKey' | 'session' | 'mtls' | 'refresh' | 'assertion'

/**
 * Claims of a credential. An application can declare the types of its own claims here. Declare them optional, because
 * other credentials do not have them.
 *
 * @example
 * declare module '@marty/core' { interface PrincipalClaims { readonly plan?: 'free' | 'gold' } }
 */
export interface PrincipalClaims {
  readonly [claim: string]: unknown
}

/** The caller. A person, a service, an API key and an anonymous caller all have the same shape. */
export interface Principal {
  /** Stable identifier, unique within its kind: the `sub` of a token, the id of a key. */
  readonly id: string
  readonly kind: 'user' | 'service' | 'key' | 'anonymous'
  readonly roles: readonly string[]
  /** OAuth scopes; empty when the credential carries none. */
  readonly scopes: readonly string[]
  /** Identifier of the credential's session (`jti`, session id hash); null for anonymous callers. */
  readonly session: string | null
  /** Verified claims of the credential, as issued. */
  readonly claims: PrincipalClaims
  readonly authenticatedBy: AuthenticationMethod | null
  /** When the credential stops being valid, in milliseconds since the epoch; null for never. */
  readonly expiresAt: number | null
}

/** The caller without a credential. */
export const ANONYMOUS: Principal = Object.freeze({
  id: 'anonymous',
  kind: 'anonymous',
  roles: Object.freeze([]),
  scopes: Object.freeze([]),
  session: null,
  claims: Object.freeze({}),
  authenticatedBy: null,
  expiresAt: null
})

/** Returns the principal, or {@link ANONYMOUS} when its credential has expired. */
export function effectivePrincipal (principal: Principal): Principal {
  return principal.expiresAt !== null && principal.expiresAt <= Date.now() ? ANONYMOUS : principal
}

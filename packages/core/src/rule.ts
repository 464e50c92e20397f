import type { AuthenticationMethod } from './principal.js'

/**
 * Who may call an operation, how often, and what is remembered of it: `config.security` of a route,
 * `security` of an RPC method. Packages add their members by augmenting this interface.
 */
export interface SecurityRule {
  /** Anybody may call it, without a credential. Excludes every member that asks who is calling. */
  readonly public?: true
  /** Any caller authenticated by one of these may call; `true` means by any method. Implied by the members that ask for more. */
  readonly authenticate?: true | readonly AuthenticationMethod[]
}

/** Names of permissions as the package that decides about them declares them in the rule; any text without such a package. */
export type PermissionName = SecurityRule extends { readonly permission?: infer Name }
  ? unknown extends Name
    ? string
    : NonNullable<Name>
  : string

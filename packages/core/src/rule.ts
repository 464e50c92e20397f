import type { AuthenticationMethod } from './principal.js'

/**
 * Who may call an operation, how often, and whether calls are audited: `config.security` of a route, `security` of an
 * RPC method. Packages add their own members by augmenting this interface.
 */
export interface SecurityRule {
  /** Any caller may call it, without a credential. Cannot be combined with members that restrict the caller. */
  readonly public?: true
  /**
   * Any caller that authenticated by one of these methods may call it; `true` accepts any method. Members that require
   * more, such as a permission, imply `true`. With `'optional'`, callers without a credential may call it too, as
   * anonymous; a credential that is not valid is still refused.
   */
  readonly authenticate?: true | 'optional' | readonly AuthenticationMethod[]
}

/** Permission names, as declared in the rule by the package that decides about permissions; without one, any string. */
export type PermissionName = SecurityRule extends { readonly permission?: infer Name }
  ? unknown extends Name
    ? string
    : NonNullable<Name>
  : string

/**
 * Returns the rule unchanged. The compiler then names the nearest member or permission for a misspelt one, which it
 * does not inside `config` of a route: `config: { security: rule({ permission: 'report:read' }) }`.
 */
export function rule (rule: SecurityRule): SecurityRule {
  return rule
}

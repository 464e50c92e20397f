/** The segments of a permission or of a pattern; scope `*` means the resource as a whole. */
export interface PermissionParts {
  readonly resource: string
  readonly scope: string
  readonly action: string
}

/**
 * Parses a permission; `resource:action` is short for `resource:*:action`. Returns null unless there are
 * two or three segments.
 */
export function parsePermission (text: string): PermissionParts | null {
  const [first, second, third, ...rest] = text.split(':')
  if (first === undefined || second === undefined || rest.length > 0) return null
  return third === undefined
    ? { resource: first, scope: '*', action: second }
    : { resource: first, scope: second, action: third }
}

/** The canonical form of a permission: without the scope if it means the resource as a whole. */
export function formatPermission ({ resource, scope, action }: PermissionParts): string {
  return scope === '*' ? `${resource}:${action}` : `${resource}:${scope}:${action}`
}

export type Effect = 'allow' | 'deny'

/**
 * Whether a rule matches a permission. `*` in a rule matches exactly one segment; there are no other
 * wildcards. A request for a resource as a whole is a request for all of its scopes: only a grant of every
 * scope allows it, and a deny of any scope denies it.
 */
export function ruleMatches (rule: PermissionParts, permission: PermissionParts, effect: Effect): boolean {
  return (
    segmentMatches(permission.action, rule.action) &&
    segmentMatches(permission.resource, rule.resource) &&
    scopeMatches(permission.scope, rule.scope, effect)
  )
}

export function segmentMatches (segment: string, pattern: string): boolean {
  return pattern === '*' || (typeof segment === 'string' && segment === pattern)
}

export function scopeMatches (scope: string, pattern: string, effect: Effect): boolean {
  return segmentMatches(scope, pattern) || (effect === 'deny' && scope === '*')
}

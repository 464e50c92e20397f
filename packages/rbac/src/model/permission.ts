/** The segments of a permission or of a pattern; scope `*` is the resource as a whole. */
export interface PermissionParts {
  readonly resource: string
  readonly scope: string
  readonly action: string
}

/** `resource:action` is short for `resource:*:action`. Null when there are not two or three segments. */
export function parsePermission (text: string): PermissionParts | null {
  const [first, second, third, ...rest] = text.split(':')
  if (first === undefined || second === undefined || rest.length > 0) return null
  return third === undefined
    ? { resource: first, scope: '*', action: second }
    : { resource: first, scope: second, action: third }
}

/** The one way to write a permission: without the scope when the resource as a whole is meant. */
export function formatPermission ({ resource, scope, action }: PermissionParts): string {
  return scope === '*' ? `${resource}:${action}` : `${resource}:${scope}:${action}`
}

export type Effect = 'allow' | 'deny'

/**
 * Whether a rule speaks of a permission. `*` in a rule stands for one whole segment, whatever it is; nothing else is
 * a wildcard. Who asks for a resource as a whole asks for all of its scopes: only a grant of every scope allows that,
 * and a deny of any scope denies it.
 */
export function speaksOf (rule: PermissionParts, asked: PermissionParts, effect: Effect): boolean {
  return (
    segmentMatches(asked.action, rule.action) &&
    segmentMatches(asked.resource, rule.resource) &&
    scopeMatches(asked.scope, rule.scope, effect)
  )
}

export function segmentMatches (asked: string, pattern: string): boolean {
  return pattern === '*' || (typeof asked === 'string' && asked === pattern)
}

export function scopeMatches (asked: string, pattern: string, effect: Effect): boolean {
  return segmentMatches(asked, pattern) || (effect === 'deny' && asked === '*')
}

import type { PolicyDefinition, Rule } from './definition.js'
import { formatPermission, parsePermission, segmentMatches, speaksOf, type Effect } from './permission.js'
import { rolePath } from './role-graph.js'

/** The rule that decided. */
export interface ExplainedRule {
  readonly effect: Effect
  /** The role the rule is written for. */
  readonly role: string
  /** The pattern, in its short form. */
  readonly permission: string
  /** The environment it is written for; `*` for every one. */
  readonly environment: string
  /** The way from a role of the caller to the rule's role. */
  readonly path: readonly string[]
  /** `file:line:column`. */
  readonly where: string
}

export interface Explanation {
  readonly allowed: boolean
  /** One sentence. */
  readonly reason: string
  /** Absent when no rule speaks for the caller, so that the default denies. */
  readonly rule?: ExplainedRule
}

/** Finds the rule behind a decision and says it in words. */
export function explain (definition: PolicyDefinition, allowed: boolean, roles: readonly string[], permission: string, environment: string): Explanation {
  const asked = parsePermission(permission)!
  const held = roles.filter(role => definition.roles.has(role))
  const applies = (rule: Rule): boolean => segmentMatches(environment, rule.environment) && speaksOf(rule, asked, rule.effect)

  const denial = definition.rules.find(rule => rule.effect === 'deny' && held.includes(rule.role) && applies(rule))
  if (denial !== undefined) {
    const place = denial.environment === '*' ? '' : ` in ${denial.environment}`
    return answer(definition, allowed, denial, [denial.role],
      `${denial.role} is denied ${formatPermission(denial)}${place}` + (denial.reason === null ? '' : `: ${denial.reason}`))
  }
  for (const rule of definition.rules) {
    if (rule.effect !== 'allow' || !applies(rule)) continue
    const path = shortest(held.map(role => rolePath(role, rule.role, definition.roles)))
    if (path === null) continue
    const inherited = path.length === 1 ? '' : `, which ${path[0]} inherits`
    return answer(definition, allowed, rule, path, `${rule.role} is allowed ${formatPermission(rule)}${inherited}`)
  }
  if (held.length === 0) {
    return { allowed, reason: roles.length === 0 ? 'the caller has no role' : `the policy knows none of the caller's roles (${roles.join(', ')})` }
  }
  return { allowed, reason: `no role of the caller (${held.join(', ')}) is allowed ${permission}` }
}

function answer (definition: PolicyDefinition, allowed: boolean, rule: Rule, path: readonly string[], reason: string): Explanation {
  const { line, column } = definition.positionOf(rule.path)
  return {
    allowed,
    reason,
    rule: {
      effect: rule.effect,
      role: rule.role,
      permission: formatPermission(rule),
      environment: rule.environment,
      path,
      where: `${definition.file}:${line}:${column}`
    }
  }
}

function shortest (paths: ReadonlyArray<readonly string[] | null>): readonly string[] | null {
  return paths.reduce((best, path) => path !== null && (best === null || path.length < best.length) ? path : best, null)
}

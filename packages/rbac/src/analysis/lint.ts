import { sortProblems, type Path, type SourceProblem } from '@marty/config'
import { append } from '@marty/core'
import type { PolicyDefinition, Rule } from '../model/definition.js'
import { formulaOf, implies } from './formula.js'
import { formatPermission, type PermissionParts } from '../model/permission.js'
import { partsOf, type Policy } from '../engine/policy.js'
import { roleClosure } from '../model/role-graph.js'

/** Problems of a valid policy that are probably mistakes. */
export type PolicyLintRule =
  | 'never-granted'
  | 'unreachable-role'
  | 'redundant-grant'
  | 'redundant-inheritance'
  | 'shadowed-grant'
  | 'idle-deny'
  | 'idle-separation'
  | 'unused-attribute'
  | 'wildcard-overgrant'
  | 'condition-never-holds'
  | 'condition-always-holds'

export interface PolicyFinding extends SourceProblem {
  readonly rule: PolicyLintRule
}

/** The maximum number of findings to report of each kind. */
const MAX_REPORTED = 100

/**
 * Looks for probable mistakes in a valid policy: grants that add nothing, denies that remove nothing,
 * names that are never used.
 */
export function lintPolicy (policy: Policy): readonly PolicyFinding[] {
  const { definition } = partsOf(policy)
  const findings: PolicyFinding[] = []
  const counts = new Map<PolicyLintRule, number>()
  const seen = new Set<string>()
  const report: Report = (rule, path, message, part = 'value') => {
    const count = counts.get(rule) ?? 0
    const key = `${path.join('\n')} ${message}`
    if (count >= MAX_REPORTED || seen.has(key)) return
    seen.add(key)
    counts.set(rule, count + 1)
    findings.push({ source: definition.file, ...definition.positionOf(path, part), message, rule })
  }
  const allows = definition.rules.filter(({ effect }) => effect === 'allow')
  lintResources(definition, allows, report)
  lintRoles(definition, report)
  lintGrants(definition, allows, report)
  lintDenies(definition, allows, report)
  lintConditions(definition, report)
  return sortProblems(findings)
}

/**
 * Finds conditions that always have the same result wherever
 * their rule applies, as far as this can be proved.
 */
function lintConditions ({ rules, conditions, environments, aliases }: PolicyDefinition, report: Report): void {
  const proved = new Map<string, boolean>()
  /** Whether an expression never evaluates to `truth` in an environment. */
  const isNever = (condition: number, truth: boolean, environment: string): boolean => {
    const key = `${condition} ${truth} ${environment}`
    let known = proved.get(key)
    if (known === undefined) {
      proved.set(
        key,
        (known = implies(formulaOf(conditions[condition]!.expression, truth, environment, aliases), false))
      )
    }
    return known
  }
  for (const { condition, subject, environment, path } of rules) {
    if (condition === null) continue
    const places = environment === '*' ? environments : [environment]
    const [neverTrue, neverFalse] = [true, false].map(truth => places.every(place => isNever(condition, truth, place)))
    // A rule made from `require` holds the opposite of the condition that the policy states.
    const isOpposite = subject.kind === 'anyone'
    const at = whenPath(path)
    if (isOpposite ? neverFalse : neverTrue) {
      report('condition-never-holds', at, 'this condition never holds, whatever is asked')
    } else if (isOpposite ? neverTrue : neverFalse) {
      report(
        'condition-always-holds',
        at,
        'this condition holds whatever is asked, as soon as what it asks about is there'
      )
    }
  }
}

/** The path of the condition that belongs to a rule's pattern. */
function whenPath (path: Path): Path {
  const last = path.lastIndexOf('permissions')
  return [...last === -1 || last < path.length - 2 ? path : path.slice(0, last), 'when']
}

type Report = (rule: PolicyLintRule, path: Path, message: string, part?: 'key' | 'value') => void

function lintResources (
  { resources, rules, conditions }: PolicyDefinition,
  allows: readonly Rule[],
  report: Report
): void {
  const granted = new Set(allows.map(({ resource, action }) => `${resource}:${action}`))
  const read = new Set(
    rules.flatMap(({ resource, condition }) =>
      condition === null ? [] : conditions[condition]!.reads.map(name => `${resource} ${name}`)
    )
  )
  for (const [name, { actions, attributes }] of resources) {
    for (const [at, action] of actions.entries()) {
      if ([`${name}:${action}`, `${name}:*`, `*:${action}`, '*:*'].some(pattern => granted.has(pattern))) continue
      report('never-granted', ['resources', name, 'actions', at], `nobody is allowed ${name}:${action}`)
    }
    for (const attribute of attributes.keys()) {
      if (read.has(`${name} resource.${attribute}`) || read.has(`* resource.${attribute}`)) continue
      report(
        'unused-attribute',
        ['resources', name, 'attributes', attribute],
        `no condition asks about ${attribute} of ${name}`,
        'key'
      )
    }
  }
}

function lintRoles ({ roles, rules, separations, requirements }: PolicyDefinition, report: Report): void {
  const used = new Set([
    ...separations.flatMap(({ roles }) => roles),
    ...requirements.flat(),
    ...[...roles.values()].flatMap(({ inherits }) => inherits)
  ])
  const named = new Set(rules.flatMap(({ subject }) => subject.kind === 'role' ? [subject.role] : []))
  for (const [name, { inherits }] of roles) {
    const closures = inherits.map(parent => roleClosure(parent, roles))
    for (const [at, parent] of inherits.entries()) {
      const by = closures.findIndex((closure, other) => other !== at && closure.has(parent))
      if (by !== -1) {
        report(
          'redundant-inheritance',
          ['roles', name, 'inherits', at],
          `"${inherits[by]!}" brings "${parent}" already`
        )
      }
    }
    if (!used.has(name) && inherits.length === 0 && !named.has(name)) {
      report(
        'unreachable-role',
        ['roles', name],
        `"${name}" gives nothing, takes nothing away and is named nowhere`,
        'key'
      )
    }
  }
  for (const separation of separations.keys()) {
    if (rules.some(({ subject }) => subject.kind === 'separated' && subject.separation === separation)) continue
    report(
      'idle-separation',
      ['separation', separation],
      'none of these roles gives anything, so keeping them apart takes nothing away'
    )
  }
}

function lintGrants ({ roles, rules }: PolicyDefinition, allows: readonly Rule[], report: Report): void {
  const inherited = new Set([...roles.values()].flatMap(({ inherits }) => inherits))
  /** Unconditional grants, by role and resource. */
  const grants = new Map<string, Rule[]>()
  const denies = new Map<string, Rule[]>()
  for (const rule of rules) {
    if (rule.subject.kind !== 'role' || rule.condition !== null || rule.environment !== '*') continue
    append(rule.effect === 'allow' ? grants : denies, `${rule.subject.role} ${rule.resource}`, rule)
  }
  const covering = (rules: ReadonlyMap<string, Rule[]>, role: string, rule: Rule): Rule | undefined => {
    const isWider = (other: Rule): boolean => other !== rule && covers(other, rule)
    return (
      rules.get(`${role} ${rule.resource}`)?.find(isWider) ??
      (rule.resource === '*' ? undefined : rules.get(`${role} *`)?.find(isWider))
    )
  }
  const closures = new Map([...roles.keys()].map(role => [role, roleClosure(role, roles)]))

  for (const rule of allows) {
    const what = formatPermission(rule)
    const hasWildcard = rule.resource === '*' || rule.action === '*'
    if (rule.subject.kind === 'service') {
      if (hasWildcard && rule.reason === null) {
        report(
          'wildcard-overgrant',
          rule.path,
          `${what} lets a service do whatever is added later; name what is meant, or give a reason`
        )
      }
      continue
    }
    if (rule.subject.kind !== 'role') continue
    const { role } = rule.subject
    if (hasWildcard && rule.reason === null && inherited.has(role)) {
      report(
        'wildcard-overgrant',
        rule.path,
        `${what} reaches every role that inherits "${role}", and whatever is added later; name what is meant, or ` +
          'give a reason'
      )
    }
    for (const member of closures.get(role)!) {
      const wider = covering(grants, member, rule)
      if (wider === undefined) continue
      report(
        'redundant-grant',
        rule.path,
        `${what} is given by ${formatPermission(wider)}${member === role ? '' : ` of "${member}"`} already`
      )
      break
    }
    if (!inherited.has(role)) {
      const deny = covering(denies, role, rule)
      if (deny !== undefined) {
        report('shadowed-grant', rule.path, `${what} is always denied by ${formatPermission(deny)} of the same role`)
      }
    }
  }
}

function lintDenies ({ rules }: PolicyDefinition, allows: readonly Rule[], report: Report): void {
  const byResource = new Map<string, Rule[]>()
  for (const rule of allows) append(byResource, rule.resource, rule)
  for (const rule of rules) {
    if (rule.effect !== 'deny' || rule.subject.kind === 'separated') continue
    const candidates =
      rule.resource === '*' ? allows : [...(byResource.get(rule.resource) ?? []), ...(byResource.get('*') ?? [])]
    if (!candidates.some(allow => overlap(allow, rule))) {
      report(
        'idle-deny',
        rule.path,
        `nobody is allowed ${formatPermission(rule)}, so there is nothing to take away or to ask more for`
      )
    }
  }
}

function covers (wide: PermissionParts, narrow: PermissionParts): boolean {
  return (
    segmentCovers(wide.resource, narrow.resource) &&
    segmentCovers(wide.scope, narrow.scope) &&
    segmentCovers(wide.action, narrow.action)
  )
}

function segmentCovers (wide: string, narrow: string): boolean {
  return wide === '*' || wide === narrow
}

function overlap (a: PermissionParts, b: PermissionParts): boolean {
  return (['resource', 'scope', 'action'] as const).every(
    part => segmentCovers(a[part], b[part]) || segmentCovers(b[part], a[part])
  )
}

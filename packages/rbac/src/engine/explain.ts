import { randomUUID } from 'node:crypto'
import { applies, readAttribute, TRUE, UNKNOWN, type Question } from '../conditions/evaluate.js'
import { subjectName, type PolicyDefinition, type Rule } from '../model/definition.js'
import { formatPermission, parsePermission, segmentMatches, ruleMatches, type Effect } from '../model/permission.js'
import { rolePath } from '../model/role-graph.js'

/** The result of a rule's condition, and the values it read. */
export interface ExplainedCondition {
  readonly text: string
  /** `unknown` if it depends on an attribute that is missing or of another type. */
  readonly result: boolean | 'unknown'
  /**
   * The attributes that it reads and their values, shortened;
   * undefined if missing. The values may be confidential.
   */
  readonly values: Readonly<Record<string, unknown>>
}

/** A rule that matches the caller and the requested permission. */
export interface ExplainedRule {
  readonly effect: Effect
  /** The role that the rule is written for, or another subject such as `svc:recorder>storage`. */
  readonly role: string
  /** The pattern, in its short form. */
  readonly permission: string
  /** The environment that the rule is written for; `*` for all of them. */
  readonly environment: string
  /** The inheritance path from a role of the caller to the rule's role. */
  readonly path: readonly string[]
  /** `file:line:column`. */
  readonly where: string
  readonly condition?: ExplainedCondition
  /** The reason as written in the policy. */
  readonly reason?: string
}

export interface Explanation {
  readonly allowed: boolean
  /** The reason for the decision, in one sentence. */
  readonly reason: string
  /** The rule that decided. Absent if no rule applies, so that the default, deny, decides. */
  readonly rule?: ExplainedRule
  /** The other matching rules: overridden, not needed, or with a condition that keeps them from applying. */
  readonly others: readonly ExplainedRule[]
  /** An id to find this answer in logs. */
  readonly decisionId: string
}

/** A rule that matches a question, and whether its condition lets it apply. */
export interface MatchingRule {
  readonly rule: Rule
  readonly path: readonly string[]
  readonly applies: boolean
}

/**
 * Every rule that matches a question, in the order of the file.
 * Uses the definition alone, neither Casbin nor the index.
 */
export function matchingRules (
  definition: PolicyDefinition,
  permission: string,
  question: Question
): readonly MatchingRule[] {
  const parts = parsePermission(permission)!
  const { rules, conditions } = definition
  const isMet = ({ condition, effect }: Rule): boolean =>
    condition === null || applies(effect, conditions[condition]!.evaluate(question))
  return rules.flatMap(rule => {
    if (!segmentMatches(question.environment, rule.environment) || !ruleMatches(rule, parts, rule.effect)) return []
    const path = pathTo(rule, definition, question)
    return path === null ? [] : [{ rule, path, applies: isMet(rule) }]
  })
}

/** Explains a decision in words. */
export function explain (definition: PolicyDefinition, permission: string, question: Question): Explanation {
  const matching = matchingRules(definition, permission, question)
  const decisive =
    matching.find(({ rule, applies }) => applies && rule.effect === 'deny') ?? matching.find(({ applies }) => applies)
  const others = matching.filter(one => one !== decisive).map(one => describeRule(definition, one, question))
  const decisionId = randomUUID()
  if (decisive === undefined) {
    const reason = reasonWithoutRule(definition, permission, question) + inapplicable(others.length)
    return { allowed: false, reason, others, decisionId }
  }
  return {
    allowed: decisive.rule.effect === 'allow',
    reason: reasonOfRule(definition, decisive),
    rule: describeRule(definition, decisive, question),
    others,
    decisionId
  }
}

/** Mentions the rules that match but do not apply. */
function inapplicable (count: number): string {
  if (count === 0) return ''
  return count === 1
    ? '; a rule would allow it, but its condition does not hold'
    : `; ${count} rules would allow it, but their conditions do not hold`
}

/** The path from the caller to the subject of a rule; null if the rule does not match the caller. */
function pathTo (
  { subject, effect }: Rule,
  { roles, separations, requirements }: PolicyDefinition,
  question: Question
): readonly string[] | null {
  const held = question.roles.filter(role => roles.has(role))
  const inheritancePath = (role: string): readonly string[] | null =>
    shortest(held.map(own => rolePath(own, role, roles)))
  switch (subject.kind) {
    case 'role':
      if (effect === 'allow') return inheritancePath(subject.role)
      return held.includes(subject.role) ? [subject.role] : null
    case 'service': {
      const { principal, service } = question.attributes
      return principal?.kind === 'service' && principal.id === subject.caller && service === subject.callee
        ? [subjectName(subject)]
        : null
    }
    case 'separated': {
      const both = separations[subject.separation]!.roles.filter(role => inheritancePath(role) !== null)
      return both.length >= 2 ? both : null
    }
    case 'unmet':
      return requirements[subject.requirement]!.some(role => inheritancePath(role) !== null) ? null : []
    case 'anyone':
      return []
  }
}

function reasonOfRule (definition: PolicyDefinition, { rule, path }: MatchingRule): string {
  const { subject, effect, environment, condition } = rule
  const what = formatPermission(rule)
  const place = environment === '*' ? '' : ` in ${environment}`
  const onlyIf = condition === null ? '' : ` if ${definition.conditions[condition]!.text}`
  const because = rule.reason === null ? '' : `: ${rule.reason}`
  switch (subject.kind) {
    case 'separated':
      return `${path.join(' and ')} must not be held together, so what they give is denied${because}`
    case 'unmet':
      return `${what}${place} needs ${definition.requirements[subject.requirement]!.join(' or ')}${because}`
    case 'anyone':
      return `${what}${place} is denied to anyone${onlyIf}${because}`
    case 'service':
      return `${subject.caller} may call ${subject.callee} for ${what}${onlyIf}${because}`
    case 'role': {
      const inherited = path.length === 1 ? '' : `, which ${path[0]} inherits`
      const verb = effect === 'allow' ? 'allowed' : 'denied'
      return `${subject.role} is ${verb} ${what}${place}${onlyIf}${inherited}${because}`
    }
  }
}

function reasonWithoutRule ({ roles }: PolicyDefinition, permission: string, question: Question): string {
  const held = question.roles.filter(role => roles.has(role))
  const { principal, service } = question.attributes
  if (principal?.kind === 'service' && service !== undefined) {
    return `nothing allows ${String(principal.id)} to call ${service} for ${permission}`
  }
  if (held.length > 0) return `no role of the caller (${held.join(', ')}) is allowed ${permission}`
  return question.roles.length === 0
    ? 'the caller has no role'
    : `the policy knows none of the caller's roles (${question.roles.join(', ')})`
}

function describeRule (definition: PolicyDefinition, { rule, path }: MatchingRule, question: Question): ExplainedRule {
  const { line, column } = definition.positionOf(rule.path)
  return {
    effect: rule.effect,
    role: subjectName(rule.subject),
    permission: formatPermission(rule),
    environment: rule.environment,
    path,
    where: `${definition.file}:${line}:${column}`,
    ...(rule.condition === null ? {} : { condition: describeCondition(definition, rule.condition, question) }),
    ...(rule.reason === null ? {} : { reason: rule.reason })
  }
}

function describeCondition (
  { conditions }: PolicyDefinition,
  number: number,
  question: Question
): ExplainedCondition {
  const { text, reads, evaluate } = conditions[number]!
  const truth = evaluate(question)
  return {
    text,
    result: truth === UNKNOWN ? 'unknown' : truth === TRUE,
    values: Object.fromEntries(reads.map(name => [name, shorten(readAttribute(name, question))]))
  }
}

const MAX_SHOWN = 100

/** Show only values that conditions can compare, and shorten long ones. */
function shorten (value: unknown): unknown {
  if (Array.isArray(value)) {
    return value.length > MAX_SHOWN
      ? `a list of ${value.length}`
      : value.map(item => (Array.isArray(item) ? 'a list' : shorten(item)))
  }
  if (typeof value === 'string') return value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}…` : value
  return typeof value === 'number' || typeof value === 'boolean' || value === undefined
    ? value
    : `a value of type ${typeof value}`
}

function shortest (paths: ReadonlyArray<readonly string[] | null>): readonly string[] | null {
  return paths.reduce((best, path) => path !== null && (best === null || path.length < best.length) ? path : best, null)
}

import { TRUE, UNKNOWN, type Attributes, type Condition } from '../conditions/evaluate.js'
import { ANYONE, serviceSubject, subjectName } from '../model/definition.js'
import { formulaOf, join, type Formula } from '../analysis/formula.js'
import type { Conditional, PolicyIndex, Rows } from './policy-index.js'
import { partsOf, type Policy } from './policy.js'
import { rolesAbove } from '../model/role-graph.js'

/**
 * What a caller may do, before anything about the request is known. `if` is one condition in a normal
 * form: the decision is allow if it is true, and deny if it is false or depends on a missing attribute.
 */
export type DecisionState = 'allowed' | 'denied' | { readonly if: string }

export function stateOf (formula: Formula): DecisionState {
  if (typeof formula !== 'boolean') return { if: formula.text }
  return formula ? 'allowed' : 'denied'
}

/** Returns `true`, `false`, or the condition. */
export function textOf (formula: Formula): string {
  return typeof formula === 'boolean' ? String(formula) : formula.text
}

/** The rules about one group of callers that match a permission in an environment, merged into one statement. */
export interface SubjectRules {
  readonly kind: 'holder' | 'separation' | 'requirement' | 'anyone'
  /** The callers that the rules are about, independent of the number that the policy gave the subject. */
  readonly subject: string
  /** What the rules say. Equal texts decide equally. */
  readonly text: string
  readonly allows: boolean
  readonly denies: boolean
  /** The roles and calls that make a caller one of these, each with its part in that. */
  readonly members: ReadonlyMap<string, string>
}

/** The condition of one caller's decision about a permission in an environment. */
export type FormulaOfDecision = (permission: string, environment: string) => Formula

/** The name for a service's calls to another, used alongside the names of roles. */
export function callName (caller: string, callee: string): string {
  return `${caller} calls ${callee}`
}

/** Finds out which conditions the decisions of a policy depend on. */
export class PolicyEvaluator {
  readonly #policy: Policy
  readonly #index: PolicyIndex
  readonly #conditions: readonly Condition[]
  readonly #subjects: readonly IndexedSubject[]
  readonly #ruleFormulas = new Map<string, Formula>()
  readonly #decisionFormulas = new Map<string, Formula>()

  constructor (policy: Policy) {
    const { definition, index } = partsOf(policy)
    this.#policy = policy
    this.#index = index
    this.#conditions = definition.conditions
    this.#subjects = subjectsOf(policy)
  }

  /** The condition of each of a caller's decisions; `false` for names that the policy does not define. */
  decisionsOf (roles: readonly string[], attributes?: Attributes): FormulaOfDecision {
    const { rows } = this.#policy.roleSet(roles, attributes)
    return (permission, environment) => {
      const permissionId = this.#policy.permissionId(permission)
      const environmentId = this.#policy.environmentId(environment)
      if (permissionId === undefined || environmentId === undefined) return false
      const truth = this.#index.decide(rows, permissionId, environmentId)
      if (truth !== UNKNOWN) return truth === TRUE
      const { allowed, rules } = this.#index.conditionalsOf(rows, permissionId, environmentId)
      return this.#decisionFormula(allowed, rules, this.#policy.environmentNames.get(environment)!)
    }
  }

  /**
   * All rules that match a permission in an environment, by subject. If two policies have the same ones,
   * they make the same decision for every caller.
   */
  rulesOn (permission: string, environment: string): readonly SubjectRules[] {
    const permissionId = this.#policy.permissionId(permission)
    const environmentId = this.#policy.environmentId(environment)
    if (permissionId === undefined || environmentId === undefined) return []
    const name = this.#policy.environmentNames.get(environment)!
    const found: SubjectRules[] = []
    for (const { kind, subject, members, rows } of this.#subjects) {
      const { allowed, denied, rules } = this.#index.conditionalsOf(rows, permissionId, environmentId)
      if (!allowed && !denied && rules.length === 0) continue
      const texts = rules.map(rule => `${rule.effect} ${textOf(this.#ruleFormula(rule, name))}`)
      found.push({
        kind,
        subject,
        members,
        text: [allowed, denied, ...new Set(texts.sort())].join('\n'),
        allows: allowed || rules.some(({ effect }) => effect === 'allow'),
        denies: denied || rules.some(({ effect }) => effect === 'deny')
      })
    }
    return found
  }

  /** The formula under which at least one allow applies and no deny does. */
  #decisionFormula (allowed: boolean, rules: readonly Conditional[], environment: string): Formula {
    const key = `${environment} ${allowed} ${rules.map(({ effect, condition }) => effect + condition).join(' ')}`
    let formula = this.#decisionFormulas.get(key)
    if (formula === undefined) {
      const formulasOf = (effect: string): readonly Formula[] =>
        rules.filter(rule => rule.effect === effect).map(rule => this.#ruleFormula(rule, environment))
      formula = join('and', [join('or', [allowed, ...formulasOf('allow')]), ...formulasOf('deny')])
      this.#decisionFormulas.set(key, formula)
    }
    return formula
  }

  /**
   * The formula under which an allow applies, or under which a deny does not: a deny applies unless its
   * condition is false.
   */
  #ruleFormula ({ condition, effect }: Conditional, environment: string): Formula {
    const key = `${condition} ${effect} ${environment}`
    let formula = this.#ruleFormulas.get(key)
    if (formula === undefined) {
      const { expression } = this.#conditions[condition]!
      formula = formulaOf(expression, effect === 'allow', environment, this.#policy.environmentNames)
      this.#ruleFormulas.set(key, formula)
    }
    return formula
  }
}

type IndexedSubject = Pick<SubjectRules, 'kind' | 'subject' | 'members'> & { readonly rows: Rows }

/** The subjects of the index, each with the callers it is about and its rows. */
function subjectsOf (policy: Policy): readonly IndexedSubject[] {
  const { definition: { roles, rules, separations, requirements }, index } = partsOf(policy)
  const holdersOf = (wanted: readonly string[]): readonly string[] => [...rolesAbove(wanted, roles)].sort()
  const subjects: IndexedSubject[] = []
  const add = (
    name: string,
    kind: SubjectRules['kind'],
    subject: string,
    members: ReadonlyMap<string, string>
  ): void => {
    const id = index.subjects.get(name)
    if (id !== undefined) subjects.push({ kind, subject, members, rows: index.rowsOf([id]) })
  }
  for (const role of roles.keys()) add(role, 'holder', role, new Map([[role, '']]))
  const calls = new Map<string, string>()
  for (const { subject } of rules) {
    if (subject.kind !== 'service') continue
    calls.set(serviceSubject(subject.caller, subject.callee), callName(subject.caller, subject.callee))
  }
  for (const [name, call] of calls) add(name, 'holder', call, new Map([[call, '']]))
  add(ANYONE, 'anyone', ANYONE, new Map())
  for (const [separation, { roles: separated }] of separations.entries()) {
    const members = new Map<string, string>()
    for (const [position, role] of separated.entries()) {
      for (const holder of holdersOf([role])) members.set(holder, `${members.get(holder) ?? ''} ${position}`)
    }
    add(subjectName({ kind: 'separated', separation }), 'separation', JSON.stringify([...members]), members)
  }
  for (const [requirement, sufficient] of requirements.entries()) {
    const members = new Map(holdersOf(sufficient).map(holder => [holder, '']))
    add(subjectName({ kind: 'unmet', requirement }), 'requirement', JSON.stringify([...members.keys()]), members)
  }
  return subjects
}

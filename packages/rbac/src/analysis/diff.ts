import { PolicyComparer, type Difference, type Holder, type RulesOfBoth } from './compare.js'
import { callName, PolicyEvaluator, stateOf, type DecisionState, type SubjectRules } from '../engine/evaluator.js'
import { partsOf, type Policy } from '../engine/policy.js'

/** One change for one caller and one permission. */
export interface PolicyChange {
  /**
   * A role, or a service's calls to another (`caller calls callee`). If only several of them together make
   * the change, they are joined with ` + `.
   */
  readonly subject: string
  readonly permission: string
  /** The environments of this change. An alias is listed only if it now names another environment. */
  readonly environments: readonly string[]
  readonly before: DecisionState
  readonly after: DecisionState
  /**
   * `maybe` when another condition takes the place of the old one, and it cannot be proven that it narrows
   * or widens it: some callers may gain and some may lose.
   */
  readonly kind: 'gain' | 'loss' | 'maybe'
}

export interface PolicyDiff {
  /**
   * Changes for single subjects come before those for several together; within each, in the order of the
   * new policy, with what only the old policy defines last.
   */
  readonly changes: readonly PolicyChange[]
  /** Empty when the changes of every caller are reported, whatever roles it holds. */
  readonly incomplete: readonly IncompleteComparison[]
}

/**
 * Too many roles interact to compare all combinations. A caller who holds more than `upTo` of them may
 * gain or lose something that is not reported.
 */
export interface IncompleteComparison {
  readonly permission: string
  readonly environments: readonly string[]
  readonly upTo: number
}

/**
 * Reports who gains and who loses what from one policy to another. It compares decisions, not the text of
 * the policies: for every role and every service's calls, and for every combination of them that can make
 * a difference, it compares every permission in every environment of either policy. A change for several
 * roles together is reported only if no subset of them already reports it.
 */
export function diffPolicies (before: Policy, after: Policy): PolicyDiff {
  const holders = [...rolesOf(before, after), ...callsOf(before, after)]
  const evaluators = [new PolicyEvaluator(before), new PolicyEvaluator(after)] as const
  const comparer = new PolicyComparer(evaluators, holders)
  const changes = new ChangeList(holders)
  for (const permission of union(after.permissions, before.permissions)) {
    for (const environment of environmentsOf(before, after)) {
      const rules: RulesOfBoth = [
        evaluators[0].rulesOn(permission, environment),
        evaluators[1].rulesOn(permission, environment)
      ]
      if (identityOf(rules[0]) === identityOf(rules[1])) continue
      const { found, upTo } = comparer.compare(permission, environment, rules)
      if (upTo !== null) changes.addIncomplete(permission, environment, upTo)
      for (const difference of found) changes.add(permission, environment, difference)
    }
  }
  return { changes: changes.sorted(), incomplete: changes.incomplete }
}

type Growing<Entry> = Entry & { readonly environments: string[] }

/** Collects differences. The same one in several environments becomes one change. */
class ChangeList {
  readonly incomplete: Array<Growing<IncompleteComparison>> = []
  readonly #holders: readonly Holder[]
  readonly #bySubject = new Map<
    string,
    { readonly members: readonly number[], readonly changes: Map<string, Growing<PolicyChange>> }
  >()

  constructor (holders: readonly Holder[]) {
    this.#holders = holders
  }

  add (permission: string, environment: string, { members, was, is, kind }: Difference): void {
    const subject = members.map(at => this.#holders[at]!.name).join(' + ')
    let entry = this.#bySubject.get(subject)
    if (entry === undefined) this.#bySubject.set(subject, entry = { members, changes: new Map() })
    const [before, after] = [stateOf(was), stateOf(is)]
    const key = JSON.stringify([permission, before, after])
    const same = entry.changes.get(key)
    if (same !== undefined) same.environments.push(environment)
    else entry.changes.set(key, { subject, permission, environments: [environment], before, after, kind })
  }

  addIncomplete (permission: string, environment: string, upTo: number): void {
    const same = this.incomplete.find(one => one.permission === permission && one.upTo === upTo)
    if (same !== undefined) same.environments.push(environment)
    else this.incomplete.push({ permission, environments: [environment], upTo })
  }

  sorted (): readonly PolicyChange[] {
    return [...this.#bySubject.values()]
      .sort((a, b) => byMembers(a.members, b.members))
      .flatMap(({ changes }) => [...changes.values()])
  }
}

function union (...lists: ReadonlyArray<readonly string[]>): readonly string[] {
  return [...new Set(lists.flat())]
}

function rolesOf (before: Policy, after: Policy): readonly Holder[] {
  return union(...[after, before].map(({ roles }) => roles.map(({ name }) => name))).map(name => ({
    name,
    roles: [name]
  }))
}

function callsOf (before: Policy, after: Policy): readonly Holder[] {
  const calls = new Map<string, Holder>()
  for (const { subject } of [after, before].flatMap(policy => partsOf(policy).definition.rules)) {
    if (subject.kind !== 'service') continue
    const { caller, callee } = subject
    const name = callName(caller, callee)
    calls.set(name, { name, roles: [], attributes: { principal: { kind: 'service', id: caller }, service: callee } })
  }
  return [...calls.values()]
}

/** The names of all environments, and the aliases that now name another environment. */
function environmentsOf (before: Policy, after: Policy): readonly string[] {
  const moved = [...after.environmentNames.keys()].filter(name => {
    const was = before.environmentNames.get(name)
    return was !== undefined && was !== after.environmentNames.get(name)
  })
  return union(after.environments, before.environments, moved)
}

function identityOf (rules: readonly SubjectRules[]): string {
  return JSON.stringify([...new Set(rules.map(({ kind, subject, text }) => `${kind} ${subject} ${text}`))].sort())
}

function byMembers (a: readonly number[], b: readonly number[]): number {
  return a.length - b.length || a.reduce((order, member, at) => order || member - b[at]!, 0)
}

import { append } from '@marty/core'
import type { Attributes } from '../conditions/evaluate.js'
import { textOf, type FormulaOfDecision, type PolicyEvaluator, type SubjectRules } from '../engine/evaluator.js'
import { implies, type Formula } from './formula.js'

/** The maximum number of sets to compare for one permission in one environment. */
const MAX_SETS = 20_000
/** The maximum number of combined sets to report for one change. */
const MAX_NAMED = 100

/** Something a caller can hold: a role, or a service's calls to another service. A caller can hold several. */
export interface Holder {
  readonly name: string
  readonly roles: readonly string[]
  readonly attributes?: Attributes
}

/** The kinds of a change, indexed by its bits GAIN and LOSS. */
const KINDS = [null, 'gain', 'loss', 'maybe'] as const
const GAIN = 1
const LOSS = 2

/** A set of holders whose decision differs between the policies, while that of no subset explains it. */
export interface Difference {
  /** Indices into the list of all holders. */
  readonly members: readonly number[]
  readonly was: Formula
  readonly is: Formula
  readonly kind: 'gain' | 'loss' | 'maybe'
}

export interface Differences {
  readonly found: readonly Difference[]
  /** Up to how many holders together were compared; null if no limit was reached. */
  readonly upTo: number | null
}

/** The rules of the old policy and of the new one about the same permission. */
export type RulesOfBoth = readonly [before: readonly SubjectRules[], after: readonly SubjectRules[]]

/** Compares two policies on one permission in one environment at a time. */
export class PolicyComparer {
  readonly #evaluators: readonly [PolicyEvaluator, PolicyEvaluator]
  readonly #holders: readonly Holder[]
  readonly #changes = new Map<string, number>()

  constructor (evaluators: readonly [PolicyEvaluator, PolicyEvaluator], holders: readonly Holder[]) {
    this.#evaluators = evaluators
    this.#holders = holders
  }

  compare (permission: string, environment: string, rules: RulesOfBoth): Differences {
    const groups = groupsIn(rules, this.#holders)
    const isCall = (group: number): boolean => this.#holders[groups[group]!.members[0]!]!.attributes !== undefined
    const found: Difference[] = []
    let upTo = Infinity
    const explained = new Map<string, number>()
    /** Compares a set of groups and all its subsets, each once, smaller ones first. Returns all their changes. */
    const compareSet = (set: readonly number[]): number => {
      const key = set.join()
      const known = explained.get(key)
      if (known !== undefined) return known
      const bySubsets = set.length === 1 ? 0 : set.reduce((all, _, at) => all | compareSet(set.toSpliced(at, 1)), 0)
      // Any member of a group can represent the others.
      const representatives = set.map(group => groups[group]!.members[0]!)
      const [was, is] = this.#formulasOf(representatives).map(formulaOf => formulaOf(permission, environment)) as [
        Formula,
        Formula
      ]
      const change = this.#changeOf(was, is)
      explained.set(key, change | bySubsets)
      if ((change & ~bySubsets) !== 0) {
        let named = 0
        for (const members of combinationsOf(set.map(group => groups[group]!.members))) {
          if (set.length > 1 && ++named > MAX_NAMED) {
            upTo = Math.min(upTo, set.length - 1)
            break
          }
          found.push({ members, was, is, kind: KINDS[change]! })
        }
      }
      return change | bySubsets
    }

    for (const group of groups.keys()) compareSet([group])
    let sets = 0
    for (const set of setsThatMatter(groups, rules)) {
      if (++sets > MAX_SETS) return { found, upTo: 1 }
      if (set.filter(isCall).length < 2) compareSet(set)
    }
    return { found, upTo: upTo === Infinity ? null : upTo }
  }

  #formulasOf (members: readonly number[]): readonly FormulaOfDecision[] {
    const held = members.map(at => this.#holders[at]!)
    const attributes = held.find(holder => holder.attributes !== undefined)?.attributes
    return this.#evaluators.map(evaluator => evaluator.decisionsOf(held.flatMap(({ roles }) => roles), attributes))
  }

  #changeOf (was: Formula, is: Formula): number {
    const key = JSON.stringify([textOf(was), textOf(is)])
    let change = this.#changes.get(key)
    if (change === undefined) {
      change = (implies(is, was) ? 0 : GAIN) | (implies(was, is) ? 0 : LOSS)
      this.#changes.set(key, change)
    }
    return change
  }
}

/** Roles or calls about which both policies say the same. Holding two of them is the same as holding one. */
interface Group {
  /** Indices into the list of all holders. */
  readonly members: readonly number[]
  /** The name of the first member. */
  readonly name: string
  /** Whether the two policies say different things about them. */
  readonly changed: boolean
}

function groupsIn (rules: RulesOfBoth, holders: readonly Holder[]): readonly Group[] {
  const statements = rules.map(all => {
    const byMember = new Map<string, string[]>()
    for (const { kind, subject, text, members } of all) {
      for (const [member, part] of members) {
        append(byMember, member, JSON.stringify([kind === 'holder' ? '' : subject, part, text]))
      }
    }
    return byMember
  })
  const groups = new Map<string, Group & { readonly members: number[] }>()
  for (const [at, { name, attributes }] of holders.entries()) {
    const [was, is] = statements.map(byMember => [...new Set(byMember.get(name))].sort().join()) as [string, string]
    if (was === '' && is === '') continue
    const key = JSON.stringify([attributes === undefined, was, is])
    let group = groups.get(key)
    if (group === undefined) groups.set(key, group = { members: [], name, changed: was !== is })
    group.members.push(at)
  }
  return [...groups.values()]
}

/**
 * The sets of groups that can make a difference that none of their subsets makes.
 * To gain a permission, a caller needs no more than: one group that gives it in the new policy; one group
 * for each requirement of the new policy; and, if the old policy denied it, the group that denied it or one
 * or two roles that were separated. At least one of these must have changed between the policies. A loss
 * is a gain with the policies swapped.
 */
function * setsThatMatter (groups: readonly Group[], rules: RulesOfBoth): Generator<readonly number[]> {
  const forEveryone = rules.map(all =>
    JSON.stringify(
      all
        .filter(({ members, kind }) => kind === 'requirement' || members.size === 0)
        .map(({ subject, text }) => [subject, text])
        .sort()
    )
  )
  const hasChanged = (set: readonly number[]): boolean =>
    forEveryone[0] !== forEveryone[1] || set.some(group => groups[group]!.changed)
  const groupsOf = (some: readonly SubjectRules[]): readonly number[] => {
    const names = new Set(some.flatMap(({ members }) => [...members.keys()]))
    return [...groups.keys()].filter(group => names.has(groups[group]!.name))
  }
  for (const [before, after] of [rules, rules.toReversed() as unknown as RulesOfBoth]) {
    const granting = groupsOf(after.filter(({ kind, allows }) => kind === 'holder' && allows))
    const denying = groupsOf(before.filter(({ kind, denies }) => kind === 'holder' && denies)).map(group => [group])
    const separated = before.filter(({ kind }) => kind === 'separation').flatMap(one => pairs(groupsOf([one])))
    const requirements = after.filter(({ kind }) => kind === 'requirement').map(one => groupsOf([one]))
    for (const grant of granting) {
      for (const denial of [[], ...denying, ...separated]) {
        yield * fulfilled([grant, ...denial], requirements, hasChanged)
      }
    }
  }
}

function pairs (groups: readonly number[]): ReadonlyArray<readonly number[]> {
  return groups.flatMap((group, at) => groups.slice(at + 1).map(other => [group, other]))
}

/**
 * Extends a set with one group for each requirement that it does not meet. The results are sorted, and only
 * those that involve a change are yielded.
 */
function * fulfilled (
  set: readonly number[],
  requirements: ReadonlyArray<readonly number[]>,
  hasChanged: (set: readonly number[]) => boolean
): Generator<readonly number[]> {
  // Skip sets that can no longer involve a change.
  if (!hasChanged(set) && !requirements.some(hasChanged)) return
  const [requirement, ...others] = requirements
  if (requirement === undefined) yield [...new Set(set)].sort((a, b) => a - b)
  else if (set.some(group => requirement.includes(group))) yield * fulfilled(set, others, hasChanged)
  else for (const group of requirement) yield * fulfilled([...set, group], others, hasChanged)
}

/** Every combination of one element from each list (Cartesian product), in order. */
function * combinationsOf ([first, ...others]: ReadonlyArray<readonly number[]>): Generator<readonly number[]> {
  if (first === undefined) return yield []
  for (const member of first) {
    for (const rest of combinationsOf(others)) yield [member, ...rest].sort((a, b) => a - b)
  }
}

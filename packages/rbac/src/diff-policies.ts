import type { Attributes } from './condition.js'
import { callName, createWeigher, stateOf, type DecisionState, type Voice, type Weigher } from './decision-state.js'
import { implies, type Formula } from './formula.js'
import { partsOf, type Policy } from './policy.js'
import { append } from './role-graph.js'

/** What changes for one caller and one permission. */
export interface PolicyChange {
  /** A role, or a service's calls of another (`caller calls callee`); several of them, when only together they make the change, with ` + ` between. */
  readonly subject: string
  readonly permission: string
  /** Where it changes so. An alias stands here only if it names another environment than before. */
  readonly environments: readonly string[]
  readonly before: DecisionState
  readonly after: DecisionState
  /** `maybe` when a condition gives way to another one that does not provably narrow or widen it: somebody may gain, somebody may lose. */
  readonly kind: 'gain' | 'loss' | 'maybe'
}

export interface PolicyDiff {
  /** Those of one subject before those of several together; then in the order of the new policy, what only the old one defines last. */
  readonly changes: readonly PolicyChange[]
  /**
   * `null` when every caller's changes are told, whatever roles it holds. Otherwise the policies have too many roles
   * that matter together, and callers with more than so many of them may gain or lose what is not told.
   */
  readonly comparedUpTo: number | null
}

/** So many sets of roles are looked at for one permission in one environment: all pairs of 100 roles, all sets of three of 30. */
const MAX_SETS = 5000

/** A role, or a service's calls of another: what a caller can be several of. */
interface Holder {
  readonly name: string
  readonly roles: readonly string[]
  readonly attributes?: Attributes
}

const KINDS = [null, 'gain', 'loss', 'maybe'] as const
const GAIN = 1
const LOSS = 2

/**
 * Who gains and who loses what from one policy to another. Compared are decisions, not texts: those of every role and
 * every service's calls, and of as many of them together as can make a difference, about every permission in every
 * environment of either policy. Of several together is told only what is told of none of their parts.
 */
export function diffPolicies (before: Policy, after: Policy): PolicyDiff {
  const holders = [...rolesOf(before, after), ...callsOf(before, after)]
  const weighers = [createWeigher(before), createWeigher(after)] as const
  const differ = createDiffer(weighers, holders)
  const found = new Map<string, { readonly members: readonly number[], readonly changes: Map<string, PolicyChange & { readonly environments: string[] }> }>()
  let comparedUpTo = Infinity
  for (const permission of union(after.permissions, before.permissions)) {
    for (const environment of placesOf(before, after)) {
      const voices = weighers.map(weigher => weigher.voicesOn(permission, environment)) as [readonly Voice[], readonly Voice[]]
      if (identityOf(voices[0]) === identityOf(voices[1])) continue
      const { told, upTo } = differ(permission, environment, voices)
      comparedUpTo = Math.min(comparedUpTo, upTo)
      for (const { members, was, is, kind } of told) {
        const subject = members.map(at => holders[at]!.name).join(' + ')
        let entry = found.get(subject)
        if (entry === undefined) found.set(subject, entry = { members, changes: new Map() })
        const change = { subject, permission, environments: [environment], before: stateOf(was), after: stateOf(is), kind }
        const key = JSON.stringify([permission, change.before, change.after])
        const same = entry.changes.get(key)
        if (same === undefined) entry.changes.set(key, change)
        else same.environments.push(environment)
      }
    }
  }
  return {
    changes: [...found.values()].sort((a, b) => byMembers(a.members, b.members)).flatMap(({ changes }) => [...changes.values()]),
    comparedUpTo: comparedUpTo === Infinity ? null : comparedUpTo
  }
}

function union (...lists: ReadonlyArray<readonly string[]>): readonly string[] {
  return [...new Set(lists.flat())]
}

function rolesOf (before: Policy, after: Policy): readonly Holder[] {
  return union(...[after, before].map(({ roles }) => roles.map(({ name }) => name))).map(name => ({ name, roles: [name] }))
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

/** Names of environments, and aliases that name another one than before. */
function placesOf (before: Policy, after: Policy): readonly string[] {
  const moved = [...after.environmentNames.keys()].filter(name => {
    const was = before.environmentNames.get(name)
    return was !== undefined && was !== after.environmentNames.get(name)
  })
  return union(after.environments, before.environments, moved)
}

function identityOf (voices: readonly Voice[]): string {
  return JSON.stringify([...new Set(voices.map(({ kind, subject, text }) => `${kind} ${subject} ${text}`))].sort())
}

function byMembers (a: readonly number[], b: readonly number[]): number {
  return a.length - b.length || a.reduce((order, member, at) => order || member - b[at]!, 0)
}

interface Told {
  readonly members: readonly number[]
  readonly was: Formula
  readonly is: Formula
  readonly kind: PolicyChange['kind']
}

type Differ = (permission: string, environment: string, voices: readonly [readonly Voice[], readonly Voice[]]) => { readonly told: readonly Told[], readonly upTo: number }

/** Compares one permission in one environment. */
function createDiffer (weighers: readonly [Weigher, Weigher], holders: readonly Holder[]): Differ {
  const callers = new Map<string, ReadonlyArray<ReturnType<Weigher['of']>>>()
  const caller = (members: readonly number[]): ReadonlyArray<ReturnType<Weigher['of']>> => {
    const key = members.join()
    let known = callers.get(key)
    if (known === undefined) {
      const held = members.map(at => holders[at]!)
      const attributes = held.find(holder => holder.attributes !== undefined)?.attributes
      callers.set(key, known = weighers.map(weigher => weigher.of(held.flatMap(({ roles }) => roles), attributes)))
    }
    return known
  }
  const compared = new Map<string, number>()
  const changeOf = (was: Formula, is: Formula): number => {
    const key = JSON.stringify([stateOf(was), stateOf(is)])
    let known = compared.get(key)
    if (known === undefined) compared.set(key, known = (implies(is, was) ? 0 : GAIN) | (implies(was, is) ? 0 : LOSS))
    return known
  }

  return (permission, environment, voices) => {
    const likeness = likenessIn(voices)
    const relevant = [...holders.keys()].filter(at => likeness.has(holders[at]!.name))
    const told: Told[] = []
    /** By what is alike about their members: how the sets decide. */
    const alike = new Map<string, { readonly was: Formula, readonly is: Formula, readonly change: number }>()
    /** What was told of each set and its parts. */
    let explained = new Map<string, number>()
    const compare = (members: readonly number[]): number => {
      const key = members.map(at => likeness.get(holders[at]!.name)).sort().join()
      let outcome = alike.get(key)
      if (outcome === undefined) {
        const [was, is] = caller(members).map(weigh => weigh(permission, environment)) as [Formula, Formula]
        alike.set(key, outcome = { was, is, change: changeOf(was, is) })
      }
      const parts = members.length === 1 ? 0 : members.reduce((all, _, at) => all | explained.get(members.toSpliced(at, 1).join())!, 0)
      if ((outcome.change & ~parts) !== 0) told.push({ members, was: outcome.was, is: outcome.is, kind: KINDS[outcome.change]! })
      return outcome.change | parts
    }

    const enough = membersThatMatter(voices)
    let looked = 0
    for (let size = 1; size <= Math.min(enough, relevant.length); size++) {
      const sets = choose(relevant.length, size)
      if (size > 1 && (looked += sets) > MAX_SETS) return { told, upTo: size - 1 }
      const next = new Map<string, number>()
      for (const members of combinations(relevant, size)) {
        // Nobody is two services at once.
        if (members.filter(at => holders[at]!.attributes !== undefined).length < 2) next.set(members.join(), compare(members))
      }
      explained = next
    }
    return { told, upTo: Infinity }
  }
}

/**
 * How many roles and calls together can make a difference that none of their parts makes. Whatever a caller gains, it
 * gains it with fewer roles as well: one that gives it now, one for each requirement now, and, if it was denied
 * before, whoever denied it: one role, or two that were separated. A loss is a gain the other way about.
 */
function membersThatMatter (voices: readonly [readonly Voice[], readonly Voice[]]): number {
  const most = (count: (voices: readonly Voice[]) => number): number => Math.max(...voices.map(count))
  return 1 + most(all => all.filter(({ kind }) => kind === 'requirement').length) +
    most(all => all.some(({ kind }) => kind === 'separation') ? 2 : all.some(({ kind, denies }) => kind === 'holder' && denies) ? 1 : 0)
}

/** A number for every role and call that matters; two with the same number are spoken of in the same way. */
function likenessIn (voices: readonly [readonly Voice[], readonly Voice[]]): ReadonlyMap<string, number> {
  const roles = new Map<string, string[]>()
  for (const [side, all] of voices.entries()) {
    for (const { kind, subject, text, members } of all) {
      for (const [member, what] of members) append(roles, member, JSON.stringify([side, kind === 'holder' ? '' : subject, what, text]))
    }
  }
  const numbers = new Map<string, number>()
  return new Map([...roles].map(([role, said]) => {
    const key = said.sort().join()
    if (!numbers.has(key)) numbers.set(key, numbers.size)
    return [role, numbers.get(key)!]
  }))
}

/** Sets of so many items, in order. */
function * combinations (items: readonly number[], size: number): Generator<readonly number[]> {
  if (size === 0) yield []
  else for (const [at, item] of items.entries()) for (const rest of combinations(items.slice(at + 1), size - 1)) yield [item, ...rest]
}

function choose (count: number, size: number): number {
  return size === 0 ? 1 : choose(count, size - 1) * (count - size + 1) / size
}

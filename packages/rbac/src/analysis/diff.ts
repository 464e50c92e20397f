import { createComparer, type Holder } from './compare.js'
import { callName, createWeigher, stateOf, type DecisionState, type Voice } from '../engine/decision-state.js'
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
  const weighers = [createWeigher(before), createWeigher(after)] as const
  const compare = createComparer(weighers, holders)
  const incomplete: Array<IncompleteComparison & { readonly environments: string[] }> = []
  const found = new Map<
    string,
    {
      readonly members: readonly number[]
      readonly changes: Map<string, PolicyChange & { readonly environments: string[] }>
    }
  >()
  for (const permission of union(after.permissions, before.permissions)) {
    for (const environment of placesOf(before, after)) {
      const voices = weighers.map(weigher => weigher.voicesOn(permission, environment)) as [
        readonly Voice[],
        readonly Voice[]
      ]
      if (identityOf(voices[0]) === identityOf(voices[1])) continue
      const { told, upTo } = compare(permission, environment, voices)
      if (upTo !== null) {
        const same = incomplete.find(one => one.permission === permission && one.upTo === upTo)
        if (same === undefined) incomplete.push({ permission, environments: [environment], upTo })
        else same.environments.push(environment)
      }
      for (const { members, was, is, kind } of told) {
        const subject = members.map(at => holders[at]!.name).join(' + ')
        let entry = found.get(subject)
        if (entry === undefined) found.set(subject, entry = { members, changes: new Map() })
        const change = {
          subject,
          permission,
          environments: [environment],
          before: stateOf(was),
          after: stateOf(is),
          kind
        }
        const key = JSON.stringify([permission, change.before, change.after])
        const same = entry.changes.get(key)
        if (same === undefined) entry.changes.set(key, change)
        else same.environments.push(environment)
      }
    }
  }
  return {
    changes: [...found.values()]
      .sort((a, b) => byMembers(a.members, b.members))
      .flatMap(({ changes }) => [...changes.values()]),
    incomplete
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

import type { Attributes } from './condition.js'
import { createWeigher, stateOf, type DecisionState } from './decision-state.js'
import { implies, type Formula } from './formula.js'
import { partsOf, type Policy } from './policy.js'

/** What changes for one caller and one permission. */
export interface PolicyChange {
  /** A role, `role + role` for who holds both, `caller > callee` for a service's calls, or `role + caller > callee`. */
  readonly subject: string
  readonly permission: string
  /** Where it changes so. An alias stands here only if it names another environment than before. */
  readonly environments: readonly string[]
  readonly before: DecisionState
  readonly after: DecisionState
  /** `maybe` when a condition gives way to another one that does not plainly narrow or widen it: somebody may gain, somebody may lose. */
  readonly kind: 'gain' | 'loss' | 'maybe'
}

export interface PolicyDiff {
  /** By subject, then permission, in the order of the new policy; what only the old one defines comes last. */
  readonly changes: readonly PolicyChange[]
  /** Whether callers with two roles were compared: not when either policy has more than 30 roles or service calls. */
  readonly pairs: boolean
}

const MAX_PAIRED = 30

interface Subject {
  readonly name: string
  readonly roles: readonly string[]
  readonly attributes?: Attributes
}

type Kinds = ReadonlyMap<string, PolicyChange['kind']>

/**
 * Who gains and who loses what from one policy to another. Compared are decisions, not texts: every role, every
 * service's calls and, in policies of at most 30 roles, every two of them held together, with every permission in every
 * environment of either policy. Of two together only what neither of them tells is told.
 */
export function diffPolicies (before: Policy, after: Policy): PolicyDiff {
  const compare = comparer(before, after)
  const roles = union(namesOf(after), namesOf(before)).map(name => ({ name, roles: [name] }))
  const calls = callsOf(before, after)
  const changes: PolicyChange[] = []
  const tell = (subject: Subject, explained: readonly Kinds[]): Kinds => {
    const { told, kinds } = compare(subject, explained)
    changes.push(...told)
    return kinds
  }
  const roleKinds = roles.map(role => tell(role, []))
  const callKinds = calls.map(call => tell(call, []))
  const pairs = roles.length <= MAX_PAIRED && calls.length <= MAX_PAIRED
  if (pairs) {
    for (const [at, role] of roles.entries()) {
      const others = [...roles.slice(at + 1), ...calls]
      const kinds = [...roleKinds.slice(at + 1), ...callKinds]
      for (const [index, other] of others.entries()) {
        tell({ ...other, name: `${role.name} + ${other.name}`, roles: [...role.roles, ...other.roles] }, [roleKinds[at]!, kinds[index]!])
      }
    }
  }
  return { changes, pairs }
}

function namesOf ({ roles }: Policy): readonly string[] {
  return roles.map(({ name }) => name)
}

function union (...lists: ReadonlyArray<readonly string[]>): readonly string[] {
  return [...new Set(lists.flat())]
}

function callsOf (before: Policy, after: Policy): readonly Subject[] {
  const calls = new Map<string, Subject>()
  for (const { subject } of [after, before].flatMap(policy => partsOf(policy).definition.rules)) {
    if (subject.kind !== 'service') continue
    const { caller, callee } = subject
    const name = `${caller} > ${callee}`
    if (!calls.has(name)) calls.set(name, { name, roles: [], attributes: { principal: { kind: 'service', id: caller }, service: callee } })
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

function comparer (before: Policy, after: Policy): (subject: Subject, explained: readonly Kinds[]) => { told: readonly PolicyChange[], kinds: Kinds } {
  const permissions = union(after.permissions, before.permissions)
  const places = placesOf(before, after)
  const weighBefore = createWeigher(before)
  const weighAfter = createWeigher(after)

  return ({ name, roles, attributes }, explained) => {
    const was = weighBefore(roles, attributes)
    const is = weighAfter(roles, attributes)
    const kinds = new Map<string, PolicyChange['kind']>()
    const told: PolicyChange[] = []
    for (const permission of permissions) {
      const groups = new Map<string, PolicyChange & { readonly environments: string[] }>()
      for (const place of places) {
        const old = was(permission, place)
        const now = is(permission, place)
        const kind = kindOf(old, now)
        if (kind === null) continue
        const cell = `${permission} ${place}`
        kinds.set(cell, kind)
        // A change of one role alone says enough of the same change of two together.
        if (explained.some(single => single.get(cell) === kind)) continue
        const change = { subject: name, permission, environments: [place], before: stateOf(old), after: stateOf(now), kind }
        const key = JSON.stringify([change.before, change.after])
        const group = groups.get(key)
        if (group === undefined) groups.set(key, change)
        else group.environments.push(place)
      }
      told.push(...groups.values())
    }
    return { told, kinds }
  }
}

function kindOf (before: Formula, after: Formula): PolicyChange['kind'] | null {
  if (before === after) return null
  const gains = !implies(after, before)
  const loses = !implies(before, after)
  return gains ? (loses ? 'maybe' : 'gain') : loses ? 'loss' : null
}

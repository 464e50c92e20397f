import type { SourceProblem } from '@marty/config'
import { append } from '@marty/core'
import { callName } from '../engine/evaluator.js'
import { diffPolicies, type PolicyChange } from '../analysis/diff.js'
import { parsePermission } from '../model/permission.js'
import { partsOf, type Policy } from '../engine/policy.js'
import { problemOf } from './origin.js'
import type { ExpectedDecision } from '../analysis/policy-tests.js'

/** The maximum number of permissions to name for one caller. */
const MAX_NAMED = 5

/**
 * Reports what callers gain, or may gain, in guarded environments without a policy test that states it. A
 * test states a gain if it expects a decision to be allowed that the previous policy denies, for a
 * principal with exactly the roles that gain, in that environment. A gain without a condition is stated
 * only by a test that gives no attribute a condition could read.
 *
 * @param guarded names or aliases of environments, of either policy
 * @param stated what the tests of the new policy expect, all of which it meets; null if there are none
 */
export function unstatedGains (
  before: Policy,
  after: Policy,
  guarded: readonly string[],
  stated: Iterable<ExpectedDecision> | null
): readonly SourceProblem[] {
  const names = guardedNames(before, after, guarded)
  const isGuarded = ({ environments }: { readonly environments: readonly string[] }): boolean =>
    environments.some(name => names.has(name))
  const { changes, incomplete } = diffPolicies(before, after)
  const gains = changes.filter(({ kind }) => kind !== 'loss').filter(isGuarded)
  const unknown = incomplete.filter(isGuarded)
  if (gains.length + unknown.length === 0) return []

  const witnessed = witnesses(before, after, stated ?? [])
  const unstated = gains.filter(change =>
    change.environments.some(name => names.has(name) && !witnessed.has(keyOf(change, name, isCertain(change))))
  )
  const bySubject = new Map<string, PolicyChange[]>()
  for (const change of unstated) append(bySubject, change.subject, change)
  return [
    ...[...bySubject].map(([subject, all]) =>
      problemOf(
        after.file,
        gainMessage(
          subject,
          all,
          `${guarded.join(', ')} than the policy tests state${stated === null ? ' (there are none)' : ''}`
        )
      )
    ),
    ...unknown.map(({ permission, upTo }) =>
      problemOf(
        after.file,
        `may grant more in ${guarded.join(', ')}: ` +
          `too many roles decide on ${permission} together to compare callers who hold more than ${upTo} of them`
      )
    )
  ]
}

/** Every name in either policy that is guarded, or that refers to a guarded environment. */
function guardedNames (before: Policy, after: Policy, guarded: readonly string[]): ReadonlySet<string> {
  const maps = [before.environmentNames, after.environmentNames]
  const meant = new Set(guarded.flatMap(name => maps.flatMap(names => names.get(name) ?? [])))
  const names = maps.flatMap(map => [...map]).filter(([, environment]) => meant.has(environment)).map(([name]) => name)
  return new Set([...guarded, ...meant, ...names])
}

function isCertain ({ after }: PolicyChange): boolean {
  return after === 'allowed'
}

/** @param certain whether the gain has no condition */
function keyOf (
  { subject, permission }: Pick<PolicyChange, 'subject' | 'permission'>,
  environment: string,
  certain: boolean
): string {
  return JSON.stringify([subject.split(' + ').sort(), permission, environment, certain])
}

/** Keys of the gains that the tests state. */
function witnesses (before: Policy, after: Policy, stated: Iterable<ExpectedDecision>): ReadonlySet<string> {
  const { resources } = partsOf(after).definition
  const found = new Set<string>()
  for (const decision of stated) {
    const { principal, permission, environment, attributes, allowed } = decision
    if (!allowed || isAllowed(before, decision)) continue
    const { service, resource = {}, time } = attributes
    const isCall = principal.kind === 'service' && principal.id !== undefined && service !== undefined
    const subject = [...new Set(principal.roles), ...isCall ? [callName(principal.id, service)] : []].join(' + ')
    const { kind, id, scopes, claims } = principal
    const declared = resources.get(parsePermission(permission)!.resource)!.attributes
    const givesAttributes = Object.keys(resource).some(name => declared.has(name)) || !Number.isNaN(time) ||
      scopes !== undefined || claims !== undefined || (!isCall && (kind !== undefined || id !== undefined))
    for (const name of [environment, after.environmentNames.get(environment)!]) {
      found.add(keyOf({ subject, permission }, name, false))
      if (!givesAttributes) found.add(keyOf({ subject, permission }, name, true))
    }
  }
  return found
}

/** Whether a policy allows a decision; it may not define the names in it. */
function isAllowed (policy: Policy, { principal, permission, environment, attributes }: ExpectedDecision): boolean {
  return policy.permissionId(permission) !== undefined && policy.environmentNames.has(environment) &&
    policy.decide(principal.roles, permission, environment, attributes)
}

function gainMessage (subject: string, changes: readonly PolicyChange[], where: string): string {
  const permissions = [...new Set(changes.map(({ permission }) => permission))]
  const more = permissions.length - MAX_NAMED
  const verb = changes.some(({ kind }) => kind === 'gain') ? 'gains' : 'may gain'
  return `grants more in ${where}: ${subject} ${verb} ` +
    `${permissions.slice(0, MAX_NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}; ` +
    'add tests that expect it of exactly this caller, or take it back'
}

import { partsOf, type Policy } from './policy.js'
import { DENIED, standingOf, type Standee, type Standing } from './standing.js'

/** One permission that somebody gains or loses. */
export interface PolicyChange {
  /** A role, two roles held together (`a + b`), or a service calling another (`a calls b`). */
  readonly subject: string
  readonly permission: string
  /** `maybe` when a condition is another one than before: what it opens cannot be known without asking it. */
  readonly kind: 'gain' | 'loss' | 'maybe'
  readonly before: PolicyStanding
  readonly after: PolicyStanding
  /** Where, by name. */
  readonly environments: readonly string[]
}

/** `allow`, `deny`, or `if` and the condition in the policy's words. */
export type PolicyStanding = 'allow' | 'deny' | `if ${string}`

/** Pairs of roles are compared while there are not too many of them. */
const MAX_PAIRED_ROLES = 30

/**
 * Who gains and who loses what from one policy to another: every role held alone, every two roles held together
 * where neither alone explains it (a separation that went, a requirement), and every call between services, for every permission
 * in every environment. What one of the policies does not define counts as denied there.
 */
export function diffPolicies (before: Policy, after: Policy): readonly PolicyChange[] {
  const policies = [before, after]
  const union = (names: (policy: Policy) => readonly string[]): readonly string[] => [...new Set(policies.flatMap(names))]
  const permissions = union(({ permissions }) => permissions)
  const environments = union(({ environments }) => environments)
  const roles = union(({ roles }) => roles.map(({ name }) => name))
  const calls = new Map(policies.flatMap(policy => partsOf(policy).definition.rules).flatMap(({ subject }) =>
    subject.kind === 'service' ? [[`${subject.caller} calls ${subject.callee}`, { caller: subject.caller, callee: subject.callee }] as const] : []))
  const renamed = [...after.environmentNames].some(([name, environment]) => (before.environmentNames.get(name) ?? environment) !== environment)

  const compare = (who: Standee, permission: string, environment: string): Pick<PolicyChange, 'kind' | 'before' | 'after'> | null => {
    const [old, now] = policies.map(policy => standingIn(policy, who, permission, environment)) as [Standing, Standing]
    const [was, is] = [toText(old), toText(now)]
    if (was === is) {
      // The same words mean another environment when its names have changed hands.
      const moved = renamed && now.state === 'if' && now.conditions.some(({ reads }) => reads.includes('environment'))
      return moved ? { kind: 'maybe', before: was, after: is } : null
    }
    const kind = is === 'allow' || was === 'deny' ? 'gain' : was === 'allow' || is === 'deny' ? 'loss' : 'maybe'
    return { kind, before: was, after: is }
  }

  const changes: PolicyChange[] = []
  const found = new Map<string, PolicyChange['kind']>()
  /** `members` are those whose own changes were told already. */
  const add = (subject: string, who: Standee, members: readonly string[] = []): void => {
    for (const permission of permissions) {
      const alike = new Map<string, PolicyChange & { readonly environments: string[] }>()
      for (const environment of environments) {
        const change = compare(who, permission, environment)
        if (change === null) continue
        const told = members.map(member => found.get(`${member} ${permission} ${environment}`))
        // What one of them loses explains no gain of both, and the other way about.
        if (told.some(kind => kind === change.kind || kind === 'maybe')) continue
        found.set(`${subject} ${permission} ${environment}`, change.kind)
        const key = `${change.before} ${change.after}`
        const same = alike.get(key)
        if (same === undefined) alike.set(key, { subject, permission, ...change, environments: [environment] })
        else same.environments.push(environment)
      }
      changes.push(...alike.values())
    }
  }
  for (const role of roles) add(role, { roles: Object.freeze([role]) })
  if (roles.length <= MAX_PAIRED_ROLES) {
    for (const [i, a] of roles.entries()) {
      for (const b of roles.slice(i + 1)) add(`${a} + ${b}`, { roles: Object.freeze([a, b]) }, [a, b])
    }
  }
  for (const [name, call] of calls) add(name, call)
  return changes
}

function standingIn (policy: Policy, who: Standee, permission: string, environment: string): Standing {
  return policy.permissionId(permission) === undefined || !policy.environments.includes(environment) ? DENIED : standingOf(policy, who, permission, environment)
}

function toText (standing: Standing): PolicyStanding {
  return standing.state === 'if' ? `if ${standing.condition}` : standing.state
}

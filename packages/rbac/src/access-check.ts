import { RuleInvalid, type Call, type Check, type Operation } from '@marty/core'
import { Denied } from './errors.js'
import { parsePermission } from './permission.js'
import { didYouMean } from './did-you-mean.js'
import type { Policy } from './policy.js'
import type { PolicyDemands } from './policy-demands.js'
import type { Rbac } from './rbac.js'

/** One question of a rule, asked about one generation of the policy. */
type Question = (call: Call, policy: Policy) => boolean

/** What the guard asks before every operation whose rule names a permission or roles. With both, both must hold. */
export function accessCheck (rbac: Rbac, demands: Pick<PolicyDemands, 'permissions' | 'roles'>): Check {
  return {
    name: '@marty/rbac',
    stage: 'authorize',
    keys: ['permission', 'roles'],
    compile (operation) {
      const permitted = permissionQuestion(rbac, operation)
      const held = rolesQuestion(rbac, operation)
      if (permitted === null && held === null) return null
      const { permission, roles } = operation.rule
      if (permission !== undefined) demands.permissions.add(permission)
      for (const role of roles ?? []) demands.roles.add(role)
      const refusal = permission === undefined ? {} : { data: { permission } }
      return call => {
        const { policy } = rbac
        if (permitted !== null && !permitted(call, policy)) throw new Denied(refusal)
        if (held !== null && !held(call, policy)) throw new Denied()
      }
    }
  }
}

function permissionQuestion ({ policy, environment, service }: Rbac, { rule }: Operation): Question | null {
  const { permission } = rule
  if (permission === undefined) return null
  if (typeof permission !== 'string') throw new RuleInvalid('security.permission must be a text such as "resource:action"')
  if (parsePermission(permission) === null) throw new RuleInvalid(`security.permission "${permission}" must be "resource:action" or "resource:scope:action"`)
  if (permission.split(':').includes('*')) throw new RuleInvalid(`security.permission "${permission}" must name one permission, without *`)
  const id = policy.permissionId(permission)
  if (id === undefined) throw new RuleInvalid(`security.permission names "${permission}", which ${policy.file} does not define${didYouMean(permission, policy.permissions)}`)
  const at = policy.environmentId(environment)!
  return ({ principal }, policy) => {
    const attributes = { principal, service }
    return policy.decideId(policy.roleSet(principal.roles, attributes), id, at, attributes)
  }
}

function rolesQuestion (rbac: Rbac, { rule }: Operation): Question | null {
  const { roles } = rule
  if (roles === undefined) return null
  let asked = rbac.policy
  const known = asked.roles.map(({ name }) => name)
  if (!Array.isArray(roles) || roles.length === 0) throw new RuleInvalid('security.roles must be a list of at least one role')
  for (const role of roles as readonly unknown[]) {
    if (typeof role === 'string' && known.includes(role)) continue
    throw new RuleInvalid(`security.roles names ${JSON.stringify(role)}, which ${asked.file} does not define${typeof role === 'string' ? didYouMean(role, known) : ''}`)
  }
  let sufficient = asked.rolesThatHold(roles)
  return ({ principal }, policy) => {
    if (policy !== asked) {
      asked = policy
      sufficient = policy.rolesThatHold(roles)
    }
    // Who holds roles that are kept apart passes for neither.
    return !policy.roleSet(principal.roles).separated && principal.roles.some(role => sufficient.has(role))
  }
}

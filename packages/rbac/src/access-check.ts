import { RuleInvalid, type Call, type Check, type CheckRun, type Operation } from '@marty/core'
import { Denied } from './errors.js'
import { parsePermission } from './permission.js'
import { didYouMean } from './did-you-mean.js'
import type { Rbac } from './rbac.js'

/** What the guard asks before every operation whose rule names a permission or roles. With both, both must hold. */
export function accessCheck (rbac: Rbac): Check {
  return {
    name: '@marty/rbac',
    stage: 'authorize',
    keys: ['permission', 'roles'],
    compile (operation) {
      const runs = [permissionRun(rbac, operation), rolesRun(rbac, operation)].filter(run => run !== null)
      if (runs.length < 2) return runs[0] ?? null
      return call => { for (const run of runs) void run(call) }
    }
  }
}

function permissionRun (rbac: Rbac, { rule }: Operation): CheckRun | null {
  const { permission } = rule
  if (permission === undefined) return null
  const { policy, environment, service } = rbac
  if (typeof permission !== 'string') throw new RuleInvalid('security.permission must be a text such as "resource:action"')
  if (parsePermission(permission) === null) throw new RuleInvalid(`security.permission "${permission}" must be "resource:action" or "resource:scope:action"`)
  if (permission.split(':').includes('*')) throw new RuleInvalid(`security.permission "${permission}" must name one permission, without *`)
  const decide = policy.decider(permission, environment)
  if (decide === null) throw new RuleInvalid(`security.permission names "${permission}", which ${policy.file} does not define${didYouMean(permission, policy.permissions)}`)
  return (call: Call) => {
    const { principal } = call
    if (!decide(principal.roles, { principal, service })) throw new Denied({ data: { permission } })
  }
}

function rolesRun ({ policy }: Rbac, { rule }: Operation): CheckRun | null {
  const { roles } = rule
  if (roles === undefined) return null
  const known = policy.roles.map(({ name }) => name)
  if (!Array.isArray(roles) || roles.length === 0) throw new RuleInvalid('security.roles must be a list of at least one role')
  for (const role of roles as readonly unknown[]) {
    if (typeof role === 'string' && known.includes(role)) continue
    throw new RuleInvalid(`security.roles names ${JSON.stringify(role)}, which ${policy.file} does not define${typeof role === 'string' ? didYouMean(role, known) : ''}`)
  }
  const sufficient = policy.rolesThatHold(roles)
  return (call: Call) => {
    const { principal } = call
    // Who holds roles that are kept apart passes for neither.
    if (!policy.roleSet(principal.roles).separated) for (const role of principal.roles) if (sufficient.has(role)) return
    throw new Denied()
  }
}

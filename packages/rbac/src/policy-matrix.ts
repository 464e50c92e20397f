import type { Policy } from './policy.js'
import { standingOf, type Standing } from './standing.js'

/** What every role may do, in one environment. */
export interface PolicyMatrix {
  readonly environment: string
  readonly roles: readonly string[]
  /** One for each permission, in the file's order. */
  readonly rows: readonly PolicyMatrixRow[]
}

export interface PolicyMatrixRow {
  readonly resource: string
  readonly permission: string
  /** One for each role: held alone. */
  readonly cells: ReadonlyArray<{ readonly state: 'allow' | 'deny' | 'if', readonly condition?: string }>
}

/** @param environment by name or alias; throws `RangeError` for another */
export function policyMatrix (policy: Policy, environment: string): PolicyMatrix {
  const name = policy.environmentNames.get(environment)
  if (name === undefined) throw new RangeError(`the policy defines no environment "${environment}"`)
  const roles = policy.roles.map(({ name }) => name)
  const callers = roles.map(role => ({ roles: Object.freeze([role]) }))
  return {
    environment: name,
    roles,
    rows: policy.permissions.map(permission => ({
      resource: permission.split(':')[0]!,
      permission,
      cells: callers.map(who => cellOf(standingOf(policy, who, permission, name)))
    }))
  }
}

function cellOf (standing: Standing): PolicyMatrixRow['cells'][number] {
  return standing.state === 'if' ? { state: 'if', condition: standing.condition } : { state: standing.state }
}

import { append, didYouMean } from '@marty/core'
import { PolicyEvaluator } from '../engine/evaluator.js'
import type { Rule } from '../model/definition.js'
import { parsePermission, ruleMatches } from '../model/permission.js'
import { partsOf, type Policy } from '../engine/policy.js'

/** What a caller with this one role may do. */
export interface MatrixCell {
  /** `deny` if a rule denies it, `none` if nothing allows it. Both mean that the caller is denied. */
  readonly state: 'allow' | 'deny' | 'if' | 'none'
  /** Whether the role has no allow of its own for it, so that the grant is inherited. */
  readonly inherited: boolean
  /** The condition of `if`, in a normal form. */
  readonly condition?: string
}

export interface MatrixRow {
  readonly permission: string
  /** One cell for each role, in the order of {@link PolicyMatrix.roles}. */
  readonly cells: readonly MatrixCell[]
}

export interface MatrixEnvironment {
  readonly environment: string
  readonly resources: ReadonlyArray<{ readonly resource: string, readonly rows: readonly MatrixRow[] }>
}

export interface PolicyMatrix {
  readonly roles: readonly string[]
  readonly environments: readonly MatrixEnvironment[]
}

export interface PolicyMatrixOptions {
  /** Name or alias of the only environment to include. @default every one */
  readonly environment?: string
}

/**
 * What each role may do when held alone, in the policy's
 * order. Throws a `RangeError` for an unknown environment.
 */
export function policyMatrix (policy: Policy, { environment }: PolicyMatrixOptions = {}): PolicyMatrix {
  const { definition, index } = partsOf(policy)
  const evaluator = new PolicyEvaluator(policy)
  const only = environment === undefined ? undefined : policy.environmentNames.get(environment)
  if (environment !== undefined && only === undefined) {
    throw new RangeError(
      `The policy defines no environment "${environment}"${didYouMean(environment, policy.environmentNames.keys())}`
    )
  }
  const own = new Map<string, Rule[]>()
  for (const rule of definition.rules) {
    if (rule.subject.kind === 'role' && rule.effect === 'allow') append(own, rule.subject.role, rule)
  }
  const columns = policy.roles.map(({ name }) => ({
    allows: own.get(name) ?? [],
    rows: policy.roleSet([name]).rows,
    formulaOf: evaluator.decisionsOf([name])
  }))

  const cellsOf = (permission: string, place: string): readonly MatrixCell[] => {
    const asked = parsePermission(permission)!
    return columns.map(({ allows, rows, formulaOf }) => {
      const formula = formulaOf(permission, place)
      if (formula === false) {
        const { denied, rules } = index.conditionalsOf(
          rows,
          policy.permissionId(permission)!,
          policy.environmentId(place)!
        )
        return { state: denied || rules.some(({ effect }) => effect === 'deny') ? 'deny' : 'none', inherited: false }
      }
      const inherited = !allows.some(rule => ruleMatches(rule, asked, 'allow'))
      return formula === true ? { state: 'allow', inherited } : { state: 'if', inherited, condition: formula.text }
    })
  }
  const byResource = new Map<string, string[]>()
  for (const permission of policy.permissions) append(byResource, parsePermission(permission)!.resource, permission)
  return {
    roles: policy.roles.map(({ name }) => name),
    environments: (only === undefined ? policy.environments : [only]).map(place => ({
      environment: place,
      resources: [...byResource].map(([resource, permissions]) => ({
        resource,
        rows: permissions.map(permission => ({ permission, cells: cellsOf(permission, place) }))
      }))
    }))
  }
}

import { TRUE, UNKNOWN, type Attributes } from './condition.js'
import { formulaOf, join, negate, type Formula } from './formula.js'
import { partsOf, type Policy } from './policy.js'

/**
 * What a caller may, before anything is known of the request. `if` is one condition in a normal form: the decision is
 * allow when it is true, and deny when it is false or hangs on what is missing.
 */
export type DecisionState = 'allowed' | 'denied' | { readonly if: string }

export function stateOf (formula: Formula): DecisionState {
  return typeof formula === 'boolean' ? (formula ? 'allowed' : 'denied') : { if: formula.text }
}

/** Tells on what a caller's decisions hang; false for names that the policy does not define. */
export type Weigher = (roles: readonly string[], attributes?: Attributes) => (permission: string, environment: string) => Formula

export function createWeigher (policy: Policy): Weigher {
  const { definition: { conditions }, index } = partsOf(policy)
  const formulas = new Map<string, Formula>()
  const weighed = new Map<string, Formula>()
  const formula = (number: number, environment: string): Formula => {
    const key = `${number} ${environment}`
    let known = formulas.get(key)
    if (known === undefined) formulas.set(key, known = formulaOf(conditions[number]!.expression, environment, policy.environmentNames))
    return known
  }

  return (roles, attributes) => {
    const { rows } = policy.roleSet(roles, attributes)
    return (permission, environment) => {
      const id = policy.permissionId(permission)
      const at = policy.environmentId(environment)
      if (id === undefined || at === undefined) return false
      const truth = index.decide(rows, id, at)
      if (truth !== UNKNOWN) return truth === TRUE
      const { allowed, rules } = index.conditionalsOf(rows, id, at)
      const name = policy.environmentNames.get(environment)!
      const key = `${name} ${allowed} ${rules.map(({ effect, condition }) => effect + condition).join(' ')}`
      let all = weighed.get(key)
      if (all === undefined) {
        const allow = join('or', [allowed, ...rules.filter(({ effect }) => effect === 'allow').map(({ condition }) => formula(condition, name))])
        // A deny stands unless its condition is false: just what the opposite, being true, says.
        weighed.set(key, all = join('and', [allow, ...rules.filter(({ effect }) => effect === 'deny').map(({ condition }) => negate(formula(condition, name)))]))
      }
      return all
    }
  }
}

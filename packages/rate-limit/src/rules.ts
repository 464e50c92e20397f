import { didYouMean, optionsInvalid, type OptionProblem } from '@marty/core'
import type { LeaseOptions } from './leases/leased-store.js'
import { optionInvalid, SCOPE } from './option-scope.js'
import type { CheckedRule, LimitRule } from './rule-options.js'
import type { StoreFailureMode } from './store/failover.js'

export interface ResolvedRule extends Required<Pick<LimitRule, 'limit' | 'windowMs' | 'by' | 'cost'>> {
  readonly name: string
  /** The largest limit of any caller (for a burst, that of its rule). Determines the storage format of the window. */
  readonly capacity: number
  readonly onFailure: StoreFailureMode | undefined
  readonly lease: LeaseOptions | undefined
  readonly burst: ResolvedRule | null
  /**
   * The rule whose window it reads: for a burst, the rule it belongs to, unless that rule is leased; otherwise itself.
   */
  readonly windowOf: string
}

/** Adds a rule, and its burst under a separate name. Throws for a rule that cannot be enforced, naming the field. */
export function addRule (
  rules: Map<string, ResolvedRule>,
  field: string,
  name: string,
  rule: CheckedRule
): ResolvedRule {
  const problems = [
    ...nameProblems(rules, field, name, rule),
    ...costProblems(`${field}.limit`, rule.limit, rule.cost),
    ...burstProblems(`${field}.burst`, rule)
  ]
  if (problems.length > 0) throw optionsInvalid(SCOPE, problems)
  const { limit, windowMs, by, cost, onFailure } = rule
  const lease = leaseOf(rule.lease)
  const shared = { by, cost, onFailure, capacity: largestOf(limit), lease, windowOf: name }
  let burst: ResolvedRule | null = null
  if (rule.burst !== undefined) {
    const own = burstName(name)
    // Leased units are recorded before they are spent, so the record cannot show how many were spent in a short window.
    // The burst of a leased rule therefore has a record of its own.
    burst = Object.freeze({
      ...shared,
      name: own,
      windowOf: lease === undefined ? name : own,
      limit: rule.burst.limit,
      windowMs: rule.burst.windowMs,
      burst: null
    })
  }
  const resolved = Object.freeze({ ...shared, name, limit, windowMs, burst })
  rules.set(name, resolved)
  if (burst !== null) rules.set(burst.name, burst)
  return resolved
}

/** Throws unless the value is a list of known rule names without duplicates; `fail` creates the error. */
export function verifyNames (
  field: string,
  names: unknown,
  rules: ReadonlyMap<string, Pick<ResolvedRule, 'windowOf'>>,
  fail: (field: string, problem: string) => Error = optionInvalid
): void {
  if (!Array.isArray(names)) throw fail(field, 'must be a list of rule names')
  const seen = new Set<unknown>()
  for (const name of names) {
    if (typeof name !== 'string' || !rules.has(name)) {
      const known = [...rules.keys()].join(', ') || 'there are none'
      const near = didYouMean(String(name), rules.keys())
      throw fail(field, `names "${String(name)}", which is not one of the rules (${known})${near}`)
    }
    const { windowOf } = rules.get(name)!
    if (windowOf !== name) {
      throw fail(field, `names "${name}", which is the burst of "${windowOf}" and comes with it; name "${windowOf}"`)
    }
    if (seen.has(name)) throw fail(field, `names "${name}" twice`)
    seen.add(name)
  }
}

function nameProblems (
  rules: ReadonlyMap<string, ResolvedRule>,
  field: string,
  name: string,
  { burst }: CheckedRule
): OptionProblem[] {
  if (rules.has(name)) {
    const problem = `has the name "${name}", which another rule has already; give one of them another name`
    return [{ field, problem }]
  }
  const own = burstName(name)
  if (burst === undefined || !rules.has(own)) return []
  return [{ field, problem: `has a burst, which is the rule "${own}", but another rule has that name already` }]
}

function burstName (name: string): string {
  return `${name}.burst`
}

/** A limit below the cost of one call would refuse every call. */
function costProblems (field: string, limit: LimitRule['limit'], cost: number): OptionProblem[] {
  const limits = typeof limit === 'number'
    ? [{ field, units: limit }]
    : Object.entries(limit).map(([role, units]) => ({ field: `${field}.${role}`, units }))
  return limits.filter(({ units }) => units < cost).map(({ field, units }) => {
    return { field, problem: `is ${units}, less than the cost of one call (${cost}), so it would refuse every call` }
  })
}

/** A burst must be stricter than its rule, for every role; otherwise it would limit nothing. */
function burstProblems (field: string, { limit, windowMs, cost, burst }: CheckedRule): OptionProblem[] {
  if (burst === undefined) return []
  const problems = costProblems(`${field}.limit`, burst.limit, cost)
  if (burst.windowMs >= windowMs) {
    const problem = `is ${burst.windowMs}, not shorter than the rule's own window (${windowMs})`
    problems.push({ field: `${field}.windowMs`, problem })
  }
  for (const role of new Set([...rolesOf(limit), ...rolesOf(burst.limit)])) {
    const [most, whole] = [ofRole(burst.limit, role), ofRole(limit, role)]
    if (most <= whole) continue
    const whose = role === 'default' ? '' : ` of the role "${role}"`
    const problem = `is ${most}, above the rule's own limit (${whole})${whose}, so it would limit nothing`
    problems.push({ field: `${field}.limit`, problem })
  }
  return problems
}

function rolesOf (limit: LimitRule['limit']): string[] {
  return typeof limit === 'number' ? ['default'] : Object.keys(limit)
}

function ofRole (limit: LimitRule['limit'], role: string): number {
  if (typeof limit === 'number') return limit
  return Object.hasOwn(limit, role) ? limit[role]! : limit.default
}

function largestOf (limit: LimitRule['limit']): number {
  return typeof limit === 'number' ? limit : Math.max(...Object.values(limit))
}

function leaseOf (lease: CheckedRule['lease']): LeaseOptions | undefined {
  if (typeof lease === 'object') return lease
  return lease ? {} : undefined
}

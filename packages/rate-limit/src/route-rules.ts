import { checkOptions, RuleInvalid, type Operation, type OptionTable } from '@marty/core'
import { MAX_LIMIT, optionInvalid, SCOPE } from './option-scope.js'
import type { ResolvedOptions } from './options.js'
import { policyOf } from './response-headers.js'
import { RULE, RULE_NAME, type CheckedRule, type LimitRule } from './rule-options.js'
import { addRule, verifyNames, type ResolvedRule } from './rules.js'

/** An entry of `security.limits`: the name of a rule, a rule with a different cost, or an inline rule. */
export type RouteLimit = string | PricedRule | InlineRule

export interface PricedRule {
  readonly rule: string
  /** Units that each call of this operation takes; overrides the rule's own cost. */
  readonly cost: number
}

export interface InlineRule extends LimitRule {
  /** Unique among all rules. @default derived from the operation's name: `GET-cameras-id` */
  readonly name?: string
}

const PRICED_RULE: OptionTable<PricedRule> = {
  rule: { kind: 'string', expected: 'the name of a rule', about: 'The name of the rule.' },
  cost: { kind: 'integer', min: 1, max: MAX_LIMIT, about: 'Units that each call of this operation takes.' }
}

const INLINE_RULE: OptionTable<Required<Pick<InlineRule, 'name'>> & LimitRule, CheckedRule & { readonly name: string }> = {
  name: { kind: 'string', ...RULE_NAME, about: 'Unique among all rules.' },
  ...RULE
}

/** A rule, and the units that one call takes from it. */
export interface AppliedRule {
  readonly rule: ResolvedRule
  readonly cost: number
}

/** All rules that one operation is charged by. */
export interface Plan {
  readonly rules: readonly AppliedRule[]
  /** The policies that are the same for every caller, as the value of the header field. */
  readonly policy: string
  /** Whether all policies are the same for every caller. */
  readonly isConstant: boolean
}

/** Resolves the rules of an operation. Inline rules of routes are added to the configured ones. */
export interface RouteRules {
  named (field: string, names: readonly string[]): readonly AppliedRule[]
  of (operation: Operation): readonly AppliedRule[]
}

export function createRouteRules (options: ResolvedOptions): RouteRules {
  const { rules, apply } = options
  const inline = new WeakMap<InlineRule, Map<string, AppliedRule[]>>()

  function named (field: string, names: readonly string[]): readonly AppliedRule[] {
    verifyNames(field, names, rules, (where, message) => new RuleInvalid(`${where} ${message}`))
    return names.flatMap(name => withBurst(rules.get(name)!))
  }

  function of (operation: Operation): readonly AppliedRule[] {
    const { limits: given = [] } = operation.rule
    if (given === false) return []
    const isOnly = !Array.isArray(given) && Object.keys(given).join() === 'only'
    const limits: unknown = isOnly ? (given as { readonly only: unknown }).only : given
    if (!Array.isArray(limits) || (isOnly && limits.length === 0)) {
      throw new RuleInvalid(
        'security.limits must be a list of rule names and rules, { only: [...] } with at least one of them, or false'
      )
    }
    verifyNames(
      'security.limits',
      limits.filter(limit => !isInline(limit)).map(limit => (isPriced(limit) ? limit.rule : limit)),
      rules,
      (where, message) => new RuleInvalid(`${where} ${message}`)
    )
    const own = limits.flatMap((limit: RouteLimit, i) => {
      if (typeof limit === 'string') return withBurst(rules.get(limit)!)
      return isPriced(limit)
        ? priced(`security.limits[${i}]`, limit)
        : declared(`security.limits[${i}]`, limit, operation.name)
    })
    for (const { rule: { name, by } } of own) {
      if (by.startsWith('account')) {
        throw new RuleInvalid(
          `security.limits names "${name}", which counts by ${by}; only the handler knows the account: charge it ` +
            `there, limiter.check({ account, address }, ["${name}"])`
        )
      }
    }
    return union((isOnly ? [] : apply[operation.transport]).flatMap(name => withBurst(rules.get(name)!)), own)
  }

  function priced (field: string, limit: PricedRule): AppliedRule[] {
    const { rule: name, cost } = checkOptions(PRICED_RULE, limit, { ...SCOPE, at: field })
    const applied = withBurst(rules.get(name)!, cost)
    for (const { rule } of applied) {
      const least = smallest(rule.limit)
      if (cost > least) throw optionInvalid(`${field}.cost`, `is ${cost}, above the limit of "${rule.name}" (${least})`)
    }
    return applied
  }

  /** Returns the same rules when called again for the same operation. */
  function declared (field: string, limit: InlineRule, operation: string): AppliedRule[] {
    const known = inline.get(limit)?.get(operation)
    if (known !== undefined) return known
    const { name = nameOf(operation), ...rule } = limit
    const checked = checkOptions(INLINE_RULE, { ...rule, name }, { ...SCOPE, at: field })
    const applied = withBurst(addRule(rules, field, checked.name, checked))
    inline.set(limit, (inline.get(limit) ?? new Map<string, AppliedRule[]>()).set(operation, applied))
    return applied
  }

  return { named, of }
}

/** Merges two lists; for a rule in both, the later list determines the cost. */
export function union (a: readonly AppliedRule[], b: readonly AppliedRule[]): readonly AppliedRule[] {
  return [...new Map([...a, ...b].map(applied => [applied.rule.name, applied])).values()]
}

export function planOf (rules: readonly AppliedRule[]): Plan {
  const constant = rules.filter(({ rule }) => typeof rule.limit === 'number' && rule.by !== 'apiKey')
  return {
    rules,
    policy: constant.map(({ rule }) => policyOf(rule.name, rule.limit as number, rule.windowMs)).join(', '),
    isConstant: constant.length === rules.length
  }
}

export function withBurst (rule: ResolvedRule, cost: number = rule.cost): AppliedRule[] {
  return rule.burst === null ? [{ rule, cost }] : [{ rule, cost }, { rule: rule.burst, cost }]
}

function isPriced (limit: RouteLimit): limit is PricedRule {
  return typeof limit === 'object' && limit !== null && 'rule' in limit
}

function isInline (limit: RouteLimit): limit is InlineRule {
  return typeof limit === 'object' && limit !== null && !('rule' in limit)
}

function nameOf (operation: string): string {
  return operation.replace(/[^\w.-]+/g, '-').replace(/^[^A-Za-z]+|-+$/g, '').slice(0, 64)
}

function smallest (limit: LimitRule['limit']): number {
  return typeof limit === 'number' ? limit : Math.min(...Object.values(limit))
}

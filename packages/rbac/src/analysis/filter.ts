import {
  compileCondition, equality, FALSE, membership, order, readAttribute, TRUE, type Condition, type Evaluate,
  type Question, type Truth
} from '../conditions/evaluate.js'
import { isTime } from '../conditions/types.js'
import type { Comparator, Comparison, Expression, Operand, Scalar } from '../conditions/syntax.js'
import type { PolicyOutline } from '../model/definition.js'
import type { Effect } from '../model/permission.js'
import type { Conditional } from '../engine/policy-index.js'

/**
 * One side of a comparison: an attribute of the resource, or a value. Only `in` and `notIn` have a list as
 * value, on the right side.
 */
export type FilterOperand = { readonly attribute: string } | { readonly value: Scalar | readonly Scalar[] }

export type FilterComparator = 'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge' | 'in' | 'notIn'

/**
 * A condition on a resource. There is no `not`: negations are moved into the comparisons. A comparison
 * with an attribute that is missing or of another type is false. This includes `ne` and `notIn`, as with
 * NULL in a WHERE clause of SQL.
 */
export type FilterExpression =
  | { readonly op: 'and' | 'or', readonly operands: readonly FilterExpression[] }
  | { readonly op: FilterComparator, readonly left: FilterOperand, readonly right: FilterOperand }

/** The resources for which a caller is allowed a permission. `test` checks a single resource. */
export type Filter =
  | { readonly kind: 'all' | 'none', readonly test: (resource: Readonly<Record<string, unknown>>) => boolean }
  | {
    readonly kind: 'some'
    readonly where: FilterExpression
    readonly test: (resource: Readonly<Record<string, unknown>>) => boolean
  }

export const ALL: Filter = Object.freeze({ kind: 'all', test: () => true })
export const NONE: Filter = Object.freeze({ kind: 'none', test: () => false })

/**
 * What a decision depends on: whether an allow or a deny
 * applies unconditionally, and the conditional rules.
 */
export interface ApplicableRules {
  readonly allowed: boolean
  readonly denied: boolean
  readonly rules: ReadonlyArray<Pick<Conditional, 'effect' | 'condition'>>
}

/** Evaluates every part of the conditions that is already known, and keeps the parts that read the resource. */
export function filterOf (
  { allowed, denied, rules }: ApplicableRules,
  { conditions, aliases }: PolicyOutline,
  question: Question
): Filter {
  // Several rules may share one condition. Conditions are numbered in the order of the file, whichever
  // rules use them.
  const residues = (effect: Effect): Residue[] =>
    [...new Set(rules.filter(rule => rule.effect === effect).map(({ condition }) => condition))]
      .sort((a, b) => a - b)
      .map(number => remaining(prepare(conditions[number]!, aliases), question, effect === 'allow'))
  const where = join('and', [!denied, join('or', [allowed, ...residues('allow')]), ...residues('deny')])
  if (typeof where === 'boolean') return where ? ALL : NONE
  return Object.freeze({ kind: 'some', where, test: resource => holds(where, resource) })
}

type Residue = boolean | FilterExpression

/** A condition in which the parts that do not read the resource are already compiled. */
type Prepared =
  | { readonly kind: 'compiled', readonly evaluate: Evaluate }
  | { readonly kind: 'of-resource', readonly comparison: Comparison }
  | { readonly kind: 'and' | 'or', readonly left: Prepared, readonly right: Prepared }
  | { readonly kind: 'not', readonly operand: Prepared }

const prepared = new WeakMap<Condition, Prepared>()

function prepare (condition: Condition, environments: ReadonlyMap<string, string>): Prepared {
  let known = prepared.get(condition)
  if (known === undefined) prepared.set(condition, known = read(condition.expression))
  return known

  function read (expression: Expression): Prepared {
    switch (expression.kind) {
      case 'not':
        return { kind: 'not', operand: read(expression.operand) }
      case 'and':
      case 'or':
        return { kind: expression.kind, left: read(expression.left), right: read(expression.right) }
      case 'comparison': {
        const isOfResource = !isTime(expression.left) && [expression.left, expression.right].some(readsResource)
        return isOfResource
          ? { kind: 'of-resource', comparison: expression }
          : { kind: 'compiled', evaluate: compileCondition('', expression, environments).evaluate }
      }
    }
  }
}

/**
 * What is left of a condition that must evaluate to `wanted`. A part that can only be unknown never
 * evaluates to true or to false.
 */
function remaining (condition: Prepared, question: Question, wanted: boolean): Residue {
  switch (condition.kind) {
    case 'compiled': return condition.evaluate(question) === (wanted ? TRUE : FALSE)
    case 'of-resource': return remainingComparison(condition.comparison, question, wanted)
    case 'not': return remaining(condition.operand, question, !wanted)
    case 'and': case 'or':
      // De Morgan: an `and` is false if either side is false.
      return join((condition.kind === 'and') === wanted ? 'and' : 'or', [
        remaining(condition.left, question, wanted),
        remaining(condition.right, question, wanted)
      ])
  }
}

function join (op: 'and' | 'or', operands: readonly Residue[]): Residue {
  const neutral = op === 'and'
  if (operands.includes(!neutral)) return !neutral
  const left = operands.filter(operand => typeof operand !== 'boolean')
    .flatMap(operand => operand.op === op ? operand.operands : [operand])
  if (left.length === 0) return neutral
  return left.length === 1 ? left[0]! : Object.freeze({ op, operands: Object.freeze(left) })
}

const TRUE_WHEN: Readonly<Record<Comparator, FilterComparator>> = {
  '==': 'eq',
  '!=': 'ne',
  '<': 'lt',
  '<=': 'le',
  '>': 'gt',
  '>=': 'ge',
  in: 'in'
}
const FALSE_WHEN: Readonly<Record<Comparator, FilterComparator>> = {
  '==': 'ne',
  '!=': 'eq',
  '<': 'ge',
  '<=': 'gt',
  '>': 'le',
  '>=': 'lt',
  in: 'notIn'
}
const ORDERS: readonly FilterComparator[] = ['lt', 'le', 'gt', 'ge']

function remainingComparison ({ comparator, left, right }: Comparison, question: Question, wanted: boolean): Residue {
  const op = (wanted ? TRUE_WHEN : FALSE_WHEN)[comparator]
  const sides = [resolveOperand(left, question), resolveOperand(right, question)] as const
  for (const [at, side] of sides.entries()) {
    if ('attribute' in side) continue
    const { value } = side
    if (at === 0 || comparator !== 'in') {
      if (!isScalar(value) || (ORDERS.includes(op) && typeof value !== 'number')) return false
    } else {
      if (!Array.isArray(value)) return false
      const items = value.filter(isScalar)
      // An attribute cannot be compared with list items of another type, so "not in the list" is never
      // known to be true.
      if (op === 'notIn' && (items.length < value.length || items.some(item => typeof item !== typeof items[0]))) {
        return false
      }
      if (op === 'in' && items.length === 0) return false
      return Object.freeze({
        op,
        left: sides[0] as FilterOperand,
        right: Object.freeze({ value: Object.freeze(items) })
      })
    }
  }
  return Object.freeze({ op, left: sides[0] as FilterOperand, right: sides[1] as FilterOperand })
}

function resolveOperand (
  operand: Operand,
  question: Question
): { readonly attribute: string } | { readonly value: unknown } {
  if (operand.kind === 'literal') return Object.freeze({ value: operand.value })
  return Object.freeze(
    readsResource(operand) ? { attribute: operand.path[1]! } : { value: readAttribute(operand.name, question) }
  )
}

function readsResource (operand: Operand): boolean {
  return operand.kind === 'attribute' && operand.path[0] === 'resource'
}

function isScalar (value: unknown): value is Scalar {
  return typeof value === 'number' ? Number.isFinite(value) : typeof value === 'string' || typeof value === 'boolean'
}

function holds (expression: FilterExpression, resource: Readonly<Record<string, unknown>>): boolean {
  if ('operands' in expression) {
    return expression.op === 'and'
      ? expression.operands.every(operand => holds(operand, resource))
      : expression.operands.some(operand => holds(operand, resource))
  }
  const { op } = expression
  const valueOf = (operand: FilterOperand): unknown => {
    if ('value' in operand) return operand.value
    return Object.hasOwn(resource, operand.attribute) ? resource[operand.attribute] : undefined
  }
  const [left, right] = [valueOf(expression.left), valueOf(expression.right)]
  const not = (truth: Truth): Truth => (TRUE - truth) as Truth
  switch (op) {
    case 'eq': return equality(left, right) === TRUE
    case 'ne': return not(equality(left, right)) === TRUE
    case 'in': return membership(left, right) === TRUE
    case 'notIn': return not(membership(left, right)) === TRUE
    case 'lt': return order(left, right, (a, b) => a < b) === TRUE
    case 'le': return order(left, right, (a, b) => a <= b) === TRUE
    case 'gt': return order(left, right, (a, b) => a > b) === TRUE
    case 'ge': return order(left, right, (a, b) => a >= b) === TRUE
  }
}

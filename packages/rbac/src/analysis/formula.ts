import { append } from '@marty/core'
import { compileCondition, FALSE, TRUE } from '../conditions/evaluate.js'
import type { Comparator, Comparison, Expression, Operand, Scalar } from '../conditions/syntax.js'

/**
 * When a condition is true, or when it is false, in negation normal form: `not` occurs only inside
 * comparisons, each of which has an opposite. Parts that depend on the environment alone are already
 * evaluated, aliases of environments are replaced by their names, and operands are sorted and unique. Two
 * formulas with the same text are equivalent. `false` means never true.
 */
export type Formula = boolean | Compound

type Compound = Atom | Junction

interface Junction {
  readonly kind: 'and' | 'or'
  /** The formula in the syntax of conditions. */
  readonly text: string
  /** Whether the text is a single list, such as `resource.owner in ["ada", "bob"]`. */
  readonly listed: boolean
  /** Operands of another kind than this one: nested `and`s and `or`s are flattened. */
  readonly operands: readonly Compound[]
}

interface Atom {
  readonly kind: 'atom'
  readonly text: string
  readonly left: string
  readonly comparator: AtomComparator
  /** The value that the left side is compared with; undefined if the right side is another attribute. */
  readonly value: Scalar | undefined
  readonly opposite: () => Atom
}

type AtomComparator = Comparator | 'not in'

const OPPOSITES: Readonly<Record<AtomComparator, AtomComparator>> = {
  '==': '!=',
  '!=': '==',
  '<': '>=',
  '>=': '<',
  '<=': '>',
  '>': '<=',
  in: 'not in',
  'not in': 'in'
}
const TURNED: Readonly<Record<Exclude<Comparator, 'in'>, Comparator>> = {
  '==': '==',
  '!=': '!=',
  '<': '>',
  '>': '<',
  '<=': '>=',
  '>=': '<='
}

/**
 * The formula for when an expression evaluates to `truth` in one environment. It is exact in the
 * three-valued logic of conditions, where neither an expression nor its opposite is true if an attribute
 * is missing or of another type.
 *
 * @param environments by name and alias
 */
export function formulaOf (
  expression: Expression,
  truth: boolean,
  environment: string,
  environments: ReadonlyMap<string, string>
): Formula {
  switch (expression.kind) {
    case 'not':
      return formulaOf(expression.operand, !truth, environment, environments)
    case 'comparison':
      return comparison(expression, truth, environment, environments)
    // De Morgan: swap `and` and `or`.
    default:
      return join(
        (expression.kind === 'and') === truth ? 'and' : 'or',
        [expression.left, expression.right].map(operand => formulaOf(operand, truth, environment, environments))
      )
  }
}

/** The conjunction or disjunction of the formulas. */
export function join (kind: 'and' | 'or', formulas: readonly Formula[]): Formula {
  const decisive = kind === 'or'
  const operands = new Map<string, Compound>()
  for (const formula of formulas) {
    if (formula === decisive) return decisive
    if (typeof formula === 'boolean') continue
    for (const operand of formula.kind === kind ? formula.operands : [formula]) operands.set(operand.text, operand)
  }
  const sorted = [...operands.values()].sort((a, b) => a.text < b.text ? -1 : 1)
  if (sorted.length < 2) return sorted[0] ?? !decisive
  const parts = partsOf(kind, sorted)
  return { kind, text: parts.join(` ${kind} `), listed: parts.length === 1, operands: sorted }
}

/** The number of steps after which {@link implies} gives up; a proof can take exponential time. */
const MAX_WORK = 200_000

/**
 * Whether `b` is true wherever `a` is true. A result of `true` is always
 * right. `false` can also mean that the proof would take too long, or that
 * it needs more than the relation between two comparisons of one attribute.
 */
export function implies (a: Formula, b: Formula): boolean {
  if (a === false || b === true) return true
  let work = 0
  // Sequent calculus (Gentzen): everything in `known` is true, and at least one of `wanted` must follow.
  const prove = (known: readonly Compound[], wanted: readonly Compound[]): boolean => {
    work += 1 + known.length * (known.length + wanted.length)
    if (work > MAX_WORK) return false
    if (known.some(one => wanted.some(({ text }) => one.text === text))) return true
    const conjunction = known.find(one => one.kind === 'and')
    if (conjunction !== undefined) {
      return prove([...without(known, conjunction), ...(conjunction as Junction).operands], wanted)
    }
    const disjunction = wanted.find(one => one.kind === 'or')
    if (disjunction !== undefined) {
      return prove(known, [...without(wanted, disjunction), ...(disjunction as Junction).operands])
    }
    const sought = wanted.find(isJunction)
    if (sought !== undefined) {
      return sought.operands.every(operand => prove(known, [...without(wanted, sought), operand]))
    }
    const cases = known.filter(isJunction)
    if (cases.length > 0) {
      const atoms = known.filter(one => !isJunction(one))
      // Try each one alone first, which is often enough: all of them together need a case for every
      // combination.
      if (cases.length > 1 && cases.some(one => prove([...atoms, one], wanted))) return true
      return cases[0]!.operands.every(operand => prove([...without(known, cases[0]!), operand], wanted))
    }
    const atoms = known as readonly Atom[]
    return atoms.some(
      one =>
        (wanted as readonly Atom[]).some(other => entails(one, other)) ||
        atoms.some(other => entails(one, other.opposite()))
    )
  }
  return prove(a === true ? [] : [a], b === false ? [] : [b])
}

function without (formulas: readonly Compound[], one: Compound): readonly Compound[] {
  return formulas.filter(formula => formula !== one)
}

function isJunction (formula: Compound): formula is Junction {
  return formula.kind !== 'atom'
}

/** Whether one comparison follows from another of the same attribute. */
function entails (a: Atom, b: Atom): boolean {
  if (a.text === b.text) return true
  if (a.left !== b.left || a.value === undefined || typeof a.value !== typeof b.value) return false
  const [x, y] = [a.value, b.value!]
  if (a.comparator === '==') return holds(x, b.comparator, y)
  if (b.comparator === '!=') return !holds(y, a.comparator, x)
  return (
    a.comparator[0] === b.comparator[0] &&
    holds(
      x,
      a.comparator === b.comparator || b.comparator.length === 2
        ? `${a.comparator[0] as '<' | '>'}=`
        : (a.comparator[0] as '<' | '>'),
      y
    )
  )
}

function holds (x: Scalar, comparator: AtomComparator, y: Scalar): boolean {
  switch (comparator) {
    case '<': return x < y
    case '<=': return x <= y
    case '>': return x > y
    case '>=': return x >= y
    default: return (comparator === '==') === (x === y)
  }
}

function comparison (
  asked: Comparison,
  truth: boolean,
  environment: string,
  environments: ReadonlyMap<string, string>
): Formula {
  const { comparator } = asked
  const [left, right] = [asked.left, asked.right].map(operand => side(operand, environment)) as [Side, Side]
  if (left.value !== undefined && right.value !== undefined) {
    return (
      compileCondition('', asked, environments).evaluate({
        attributes: {},
        roles: [],
        environment,
        clock: Date.now
      }) === (truth ? TRUE : FALSE)
    )
  }
  if (comparator === 'in') {
    // A list in the policy is equivalent to its items, one by one.
    if (Array.isArray(right.value)) {
      return join(
        truth ? 'or' : 'and',
        (right.value as readonly Scalar[]).map(item => atom(left.text, truth ? '==' : '!=', quote(item), item))
      )
    }
    const inside = atom(left.text, 'in', right.text, undefined)
    return truth ? inside : inside.opposite()
  }
  // Literals go to the right. Of two attributes, the one of the resource goes to the left.
  const turned = left.value !== undefined || (right.value === undefined && left.text < right.text)
  const [first, second] = turned ? [right, left] : [left, right]
  const plain = atom(
    first.text,
    turned ? TURNED[comparator] : comparator,
    second.text,
    second.value as Scalar | undefined
  )
  return truth ? plain : plain.opposite()
}

interface Side {
  readonly text: string
  /** Undefined if the side is an attribute. */
  readonly value: Scalar | readonly Scalar[] | undefined
}

function side (operand: Operand, environment: string): Side {
  if (operand.kind === 'literal') {
    return {
      text: Array.isArray(operand.value) ? `[${operand.value.map(quote).join(', ')}]` : quote(operand.value),
      value: operand.value
    }
  }
  return operand.name === 'environment'
    ? { text: quote(environment), value: environment }
    : { text: operand.name, value: undefined }
}

function atom (left: string, comparator: AtomComparator, right: string, value: Scalar | undefined): Atom {
  // A boolean that is not one value is the other one.
  if (comparator === '!=' && typeof value === 'boolean') return atom(left, '==', quote(!value), !value)
  const text = comparator === 'not in' ? `not (${left} in ${right})` : `${left} ${comparator} ${right}`
  return {
    kind: 'atom',
    text,
    left,
    comparator,
    value,
    opposite: () => atom(left, OPPOSITES[comparator], right, value)
  }
}

/** The texts of the operands. Comparisons of one attribute for (in)equality are combined into one list. */
function partsOf (kind: 'and' | 'or', operands: readonly Compound[]): readonly string[] {
  const equal = kind === 'or' ? '==' : '!='
  const groups = new Map<string, Compound[]>()
  for (const operand of operands) {
    append(
      groups,
      operand.kind === 'atom' && operand.comparator === equal && operand.value !== undefined
        ? operand.left
        : operand.text,
      operand
    )
  }
  return [...groups].map(([left, [first, ...others]]) => {
    if (others.length === 0) return first!.kind === 'or' && !first!.listed ? `(${first!.text})` : first!.text
    const list = `${left} in [${[first, ...others].map(atom => quote((atom as Atom).value)).join(', ')}]`
    return kind === 'or' ? list : `not (${list})`
  })
}

function quote (value: unknown): string {
  return typeof value === 'string' ? `"${value.replaceAll(/[\\"]/g, '\\$&')}"` : String(value)
}

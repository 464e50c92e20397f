import { compileCondition, FALSE, UNKNOWN } from './condition.js'
import type { Comparison, Expression, Operand } from './condition-syntax.js'

/**
 * A condition in a normal form: what depends on the environment alone is worked out, names of environments stand for
 * their aliases, and operands are sorted, each once. Two conditions with the same text always come to the same.
 */
export type Formula = boolean | Compound

interface Compound {
  readonly kind: 'comparison' | 'not' | 'and' | 'or'
  /** In the language of conditions. */
  readonly text: string
  readonly operands: readonly Compound[]
}

/** The normal form of a condition, asked in one environment. `environments` are its names by name and alias. */
export function formulaOf (expression: Expression, environment: string, environments: ReadonlyMap<string, string>): Formula {
  switch (expression.kind) {
    case 'comparison': return comparison(expression, environment, environments)
    case 'not': return negate(formulaOf(expression.operand, environment, environments))
    default: return join(expression.kind, [expression.left, expression.right].map(operand => formulaOf(operand, environment, environments)))
  }
}

export function negate (formula: Formula): Formula {
  if (typeof formula === 'boolean') return !formula
  return formula.kind === 'not' ? formula.operands[0]! : { kind: 'not', text: `not (${formula.text})`, operands: [formula] }
}

/** Their conjunction or disjunction. Exact in the three-valued logic of conditions: it commutes, and nothing else is simplified. */
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
  return { kind, text: sorted.map(({ kind: inner, text }) => kind === 'and' && inner === 'or' ? `(${text})` : text).join(` ${kind} `), operands: sorted }
}

/**
 * Whether the second is true wherever the first is, as far as their structure shows: `false` may also mean that it
 * takes knowing what comparisons mean.
 */
export function implies (a: Formula, b: Formula): boolean {
  if (typeof a === 'boolean' || typeof b === 'boolean') return a === false || b === true
  if (a.text === b.text) return true
  if (a.kind === 'or') return a.operands.every(operand => implies(operand, b))
  if (b.kind === 'and') return b.operands.every(operand => implies(a, operand))
  return (a.kind === 'and' && a.operands.some(operand => implies(operand, b))) || (b.kind === 'or' && b.operands.some(operand => implies(a, operand)))
}

function comparison (asked: Comparison, environment: string, environments: ReadonlyMap<string, string>): Formula {
  const { comparator, left, right } = asked
  if ([left, right].every(operand => operand.kind === 'literal' || operand.name === 'environment')) {
    const truth = compileCondition('', asked, environments).evaluate({ attributes: {}, roles: [], environment, clock: Date.now })
    if (truth !== UNKNOWN) return truth !== FALSE
  }
  return { kind: 'comparison', text: `${write(left, environment)} ${comparator} ${write(right, environment)}`, operands: [] }
}

function write (operand: Operand, environment: string): string {
  if (operand.kind === 'attribute') return operand.name === 'environment' ? quote(environment) : operand.name
  return Array.isArray(operand.value) ? `[${operand.value.map(quote).join(', ')}]` : quote(operand.value)
}

function quote (value: unknown): string {
  return typeof value === 'string' ? `"${value.replaceAll(/[\\"]/g, '\\$&')}"` : String(value)
}

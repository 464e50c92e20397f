import { strangeCharacterHint } from '@marty/config'
import { didYouMean } from '@marty/core'
import { ConditionMistake, type Comparison, type Expression, type Operand, type Scalar } from './syntax.js'
import { parseTimeWindow } from './time-window.js'

/**
 * What is known about an attribute before it is read. `unknown` can be any type; `choices` are the only
 * strings it can be.
 */
export interface AttributeType {
  readonly type: 'text' | 'number' | 'boolean' | 'list' | 'unknown'
  readonly choices?: readonly string[]
}

/** The names that a condition may use. */
export interface ConditionScope {
  readonly roles: readonly string[]
  /** Names and aliases of environments. */
  readonly environments: readonly string[]
  /** Attributes of the resources that the rule matches. */
  readonly resource: ReadonlyMap<string, AttributeType>
}

const KINDS: readonly string[] = ['user', 'service', 'key', 'anonymous']

/** Finds every mistake in a condition that can be detected without evaluating it. */
export function conditionMistakes (expression: Expression, scope: ConditionScope): ConditionMistake[] {
  switch (expression.kind) {
    case 'not':
      return conditionMistakes(expression.operand, scope)
    case 'and':
    case 'or':
      return [...conditionMistakes(expression.left, scope), ...conditionMistakes(expression.right, scope)]
    case 'comparison':
      return comparisonMistakes(expression, scope)
  }
}

function comparisonMistakes (comparison: Comparison, scope: ConditionScope): ConditionMistake[] {
  const { comparator, left, right, offset } = comparison
  if (isTime(left) || isTime(right)) return timeMistakes(comparison)
  const mistakes: ConditionMistake[] = []
  const typeOf = (operand: Operand): AttributeType => {
    const type =
      operand.kind === 'literal' ? typeOfLiteral(operand.value) : typeOfAttribute(operand.name, operand.path, scope)
    if (typeof type !== 'string') return type
    mistakes.push(new ConditionMistake(operand.offset, type))
    return { type: 'unknown' }
  }
  const types = [typeOf(left), typeOf(right)] as const
  const wrong = (message: string): ConditionMistake[] => [...mistakes, new ConditionMistake(offset, message)]
  if (left.kind === 'literal' && right.kind === 'literal') return wrong('both sides are constant')
  const [first, second] = types
  if (comparator === 'in') {
    if (first.type === 'list') return wrong('a list cannot be in another list; write a single value before in')
    if (second.type !== 'list' && second.type !== 'unknown') {
      return wrong(`in needs a list after it, such as ["a", "b"]; this is a ${second.type}`)
    }
    const item = itemType(second, right)
    if (!agree(first.type, item)) return wrong(`a ${first.type} is never in a list of ${item}s`)
  } else if (comparator === '==' || comparator === '!=') {
    for (const { type } of types) {
      if (type === 'list') return wrong(`a list cannot be compared with ${comparator}; use in`)
    }
    if (!agree(first.type, second.type)) return wrong(`a ${first.type} is never equal to a ${second.type}`)
  } else {
    for (const { type } of types) {
      if (type !== 'number' && type !== 'unknown') return wrong(`${comparator} compares numbers; this is a ${type}`)
    }
  }
  return [...mistakes, ...choiceMistakes(left, second, right), ...choiceMistakes(right, first, left)]
}

/** The type of the items of a list. */
function itemType (list: AttributeType, operand: Operand): AttributeType['type'] {
  if (list.choices !== undefined) return 'text'
  if (operand.kind !== 'literal') return 'unknown'
  return TYPE_OF[typeof (operand.value as readonly Scalar[])[0]] ?? 'unknown'
}

/**
 * Finds strings that an attribute can never be. Otherwise, a misspelt role in an allow would be noticed
 * only by the callers it locks out.
 */
function choiceMistakes (literal: Operand, { choices }: AttributeType, attribute: Operand): ConditionMistake[] {
  if (literal.kind !== 'literal' || choices === undefined || attribute.kind !== 'attribute') return []
  return [literal.value]
    .flat()
    .filter(value => typeof value === 'string' && !choices.includes(value))
    .map(
      value =>
        new ConditionMistake(
          literal.offset,
          `${attribute.name} is never ` +
            `"${String(value)}"${strangeCharacterHint(String(value))}${didYouMean(String(value), choices)}`
        )
    )
}

function timeMistakes ({ comparator, left, right, offset }: Comparison): ConditionMistake[] {
  if (!isTime(left) || comparator !== 'in' || right.kind !== 'literal' || typeof right.value !== 'string') {
    return [new ConditionMistake(offset, 'time can only be used as in time in "Mon-Fri 08:00-18:00 Europe/Berlin"')]
  }
  const window = parseTimeWindow(right.value)
  return typeof window === 'string' ? [new ConditionMistake(right.offset, window)] : []
}

export function isTime (operand: Operand): boolean {
  return operand.kind === 'attribute' && operand.name === 'time'
}

const TYPE_OF: Readonly<Record<string, AttributeType['type']>> = Object.freeze({
  string: 'text',
  text: 'text',
  number: 'number',
  boolean: 'boolean'
})

function typeOfLiteral (value: Scalar | readonly Scalar[]): AttributeType | string {
  if (typeof value !== 'object') return { type: TYPE_OF[typeof value]! }
  return value.every(item => typeof item === typeof value[0])
    ? { type: 'list' }
    : 'the items of a list must be of one type'
}

/** The type of an attribute, or a message if its name is wrong. */
function typeOfAttribute (
  name: string,
  path: readonly string[],
  { roles, environments, resource }: ConditionScope
): AttributeType | string {
  const [root, member] = path
  if (name === 'environment') return { type: 'text', choices: environments }
  if (name === 'principal.id') return { type: 'text' }
  if (name === 'principal.kind') return { type: 'text', choices: KINDS }
  if (name === 'principal.roles') return { type: 'list', choices: roles }
  if (name === 'principal.scopes') return { type: 'list' }
  if (path.some(step => step === '__proto__' || step === 'constructor' || step === 'prototype')) {
    return `the attribute ${name} is not allowed`
  }
  if (root === 'principal' && member === 'claims' && path.length > 2) return { type: 'unknown' }
  const own = [...resource.keys()].map(attribute => `resource.${attribute}`)
  if (root === 'resource' && path.length === 2) {
    const type = resource.get(member!)
    return type ?? `the resources of this rule declare no attribute "${member}"${didYouMean(member!, resource.keys())}`
  }
  return (
    `there is no attribute ${name}` +
    (didYouMean(name, [
      ...own, 'principal.id', 'principal.kind', 'principal.roles', 'principal.scopes', 'environment', 'time'
    ]) ||
      ('; the attributes are principal.id, principal.kind, principal.roles, principal.scopes, principal.claims.NAME, ' +
        'resource.NAME, environment and time'))
  )
}

function agree (first: AttributeType['type'], second: AttributeType['type']): boolean {
  return first === second || first === 'unknown' || second === 'unknown'
}

import type { Principal } from '@marty/core'
import { isTime } from './types.js'
import type { Comparison, Expression, Operand } from './syntax.js'
import { parseTimeWindow, type TimeWindow } from './time-window.js'

/**
 * The result of a condition. It is `UNKNOWN` if it depends on an attribute that is missing or of another
 * type. The values are ordered so that Kleene's three-valued logic is arithmetic: `and` is the minimum,
 * `or` the maximum, `not` is `TRUE - x`.
 */
export const FALSE = 0
export const UNKNOWN = 1
export const TRUE = 2
export type Truth = typeof FALSE | typeof UNKNOWN | typeof TRUE

/** What is known about a request, in addition to the caller's roles and the permission. */
export interface Attributes {
  /** The caller. Its `roles` are ignored: the decision uses the roles that are passed to it. */
  readonly principal?: Partial<Omit<Principal, 'roles'>> | undefined
  /** The service that is called. The rules under `services` apply only to calls of this service. */
  readonly service?: string | undefined
  /** The resource. Only own properties are read: strings, finite numbers, booleans and lists of them. */
  readonly resource?: Readonly<Record<string, unknown>> | undefined
  /** The time, in milliseconds since the epoch. @default the policy's clock */
  readonly time?: number | undefined
}

/** The input for evaluating conditions. */
export interface Question {
  readonly attributes: Attributes
  readonly roles: readonly string[]
  /** The name of the environment, never an alias. */
  readonly environment: string
  readonly clock: () => number
}

export type Evaluate = (question: Question) => Truth

export interface Condition {
  readonly text: string
  readonly expression: Expression
  readonly evaluate: Evaluate
  /** The attributes that the condition reads, such as `resource.owner`. */
  readonly reads: readonly string[]
}

/** Compiles a condition from its checked syntax tree. No string is ever executed as code. */
export function compileCondition (
  text: string,
  expression: Expression,
  environments: ReadonlyMap<string, string>
): Condition {
  const reads = new Set<string>()
  const evaluate = compile(expression, environments, reads)
  return Object.freeze({ text, expression, evaluate, reads: Object.freeze([...reads]) })
}

/**
 * Whether a rule applies. An allow applies only if its condition is true; a deny applies unless its
 * condition is false. So an unknown result never widens access.
 */
export function applies (effect: 'allow' | 'deny', truth: Truth): boolean {
  return effect === 'allow' ? truth === TRUE : truth !== FALSE
}

/** The value of an attribute as conditions see it; undefined if it is missing. */
export function readAttribute (name: string, question: Question): unknown {
  return reader(name.split('.'))(question)
}

function compile (expression: Expression, environments: ReadonlyMap<string, string>, reads: Set<string>): Evaluate {
  if (expression.kind === 'comparison') return compileComparison(expression, environments, reads)
  if (expression.kind === 'not') {
    const operand = compile(expression.operand, environments, reads)
    return question => (TRUE - operand(question)) as Truth
  }
  const left = compile(expression.left, environments, reads)
  const right = compile(expression.right, environments, reads)
  if (expression.kind === 'and') {
    return question => {
      const first = left(question)
      return first === FALSE ? FALSE : Math.min(first, right(question)) as Truth
    }
  }
  return question => {
    const first = left(question)
    return first === TRUE ? TRUE : Math.max(first, right(question)) as Truth
  }
}

type Read = (question: Question) => unknown

function compileComparison (
  { comparator, left, right }: Comparison,
  environments: ReadonlyMap<string, string>,
  reads: Set<string>
): Evaluate {
  for (const operand of [left, right]) if (operand.kind === 'attribute') reads.add(operand.name)
  if (isTime(left)) return isWithin(parseTimeWindow((right as { readonly value: string }).value) as TimeWindow)
  // `environment == "prod"` means the environment of that alias.
  const isEnvironment = [left, right].some(
    ({ kind, ...operand }) => kind === 'attribute' && 'name' in operand && operand.name === 'environment'
  )
  const [a, b] = [left, right].map(operand =>
    operand.kind === 'attribute' ? reader(operand.path) : constant(operand, isEnvironment ? environments : null)
  ) as [Read, Read]
  switch (comparator) {
    case '==':
      return question => equality(a(question), b(question))
    case '!=':
      return question => (TRUE - equality(a(question), b(question))) as Truth
    case 'in':
      return question => membership(a(question), b(question))
    case '<':
      return question => order(a(question), b(question), (x, y) => x < y)
    case '<=':
      return question => order(a(question), b(question), (x, y) => x <= y)
    case '>':
      return question => order(a(question), b(question), (x, y) => x > y)
    case '>=':
      return question => order(a(question), b(question), (x, y) => x >= y)
  }
}

function constant (operand: Operand & { readonly kind: 'literal' }, names: ReadonlyMap<string, string> | null): Read {
  const resolve = (value: unknown): unknown => names?.get(value as string) ?? value
  const value = Array.isArray(operand.value) ? operand.value.map(resolve) : resolve(operand.value)
  return () => value
}

function reader ([root, member, ...rest]: readonly string[]): Read {
  if (root === 'environment') return ({ environment }) => environment
  if (root === 'time') return now
  if (root === 'resource') return ({ attributes: { resource } }) => own(resource, member!)
  switch (member) {
    case 'id': return ({ attributes: { principal } }) => principal?.id
    case 'kind': return ({ attributes: { principal } }) => principal?.kind
    case 'scopes': return ({ attributes: { principal } }) => principal?.scopes
    case 'roles': return ({ roles }) => roles
    default: return ({ attributes: { principal } }) => rest.reduce<unknown>(own, principal?.claims)
  }
}

function own (holder: unknown, name: string): unknown {
  return typeof holder === 'object' && holder !== null && Object.hasOwn(holder, name)
    ? (holder as Record<string, unknown>)[name]
    : undefined
}

function now ({ attributes, clock }: Question): number {
  return attributes.time ?? clock()
}

/**
 * Compares only values of the same type. Any other pair,
 * including `undefined` and `NaN`, is neither equal nor unequal.
 */
export function equality (a: unknown, b: unknown): Truth {
  if (!comparable(a, b)) return UNKNOWN
  return a === b ? TRUE : FALSE
}

export function membership (value: unknown, list: unknown): Truth {
  if (!Array.isArray(list) || !comparable(value, value)) return UNKNOWN
  let result: Truth = FALSE
  for (const item of list) {
    if (item === value) return TRUE
    if (!comparable(item, value)) result = UNKNOWN
  }
  return result
}

export function order (a: unknown, b: unknown, holds: (a: number, b: number) => boolean): Truth {
  if (typeof a !== 'number' || !comparable(a, b)) return UNKNOWN
  return holds(a, b as number) ? TRUE : FALSE
}

function comparable (a: unknown, b: unknown): boolean {
  if (typeof a !== typeof b) return false
  return typeof a === 'number'
    ? Number.isFinite(a) && Number.isFinite(b)
    : typeof a === 'string' || typeof a === 'boolean'
}

/** The latest time a `Date` can represent. */
const MAX_MOMENT = 8.64e15

function isWithin (window: TimeWindow): Evaluate {
  return question => {
    const moment = now(question)
    // Written so that NaN is unknown too.
    if (!(Math.abs(moment) <= MAX_MOMENT)) return UNKNOWN
    return window(moment) ? TRUE : FALSE
  }
}

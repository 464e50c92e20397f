import { closest, didYouMean, didYouMeanOrKnown } from '@marty/core'
import type { TSchema } from 'typebox'
import type { TLocalizedValidationError } from 'typebox/error'
import { typeboxLibrary } from './lazy-libraries.js'
import { branchFor, choicesOf, memberSchema, shapeOf } from './schema-shape.js'
import { strangeCharacterHint } from './strange-character.js'
import type { Path } from './yaml-source.js'

/** Called for every mistake, with its path, whether the key or the value is wrong, and a message. */
export type Report = (path: Path, part: 'key' | 'value', message: string) => void

export interface CheckOptions {
  /** Whether the value at a path must not be repeated in a message. Fields marked `secret` never are. */
  readonly conceal?: (path: Path) => boolean
}

/**
 * Compares a value with a TypeBox schema and reports every mistake: what was expected and what was found. Objects with
 * properties are closed: an unknown key is a mistake, and the message suggests the closest known key.
 */
export function checkSchema (value: unknown, schema: TSchema, report: Report, options: CheckOptions = {}): void {
  check(value, schema, [], { report, conceal: options.conceal ?? (() => false) })
}

interface Checking {
  readonly report: Report
  readonly conceal: (path: Path) => boolean
}

function check (value: unknown, schema: TSchema, path: Path, checking: Checking): void {
  const { type, anyOf } = shapeOf(schema)
  if (type === 'object' && isMapping(value)) checkMapping(value, schema, path, checking)
  else if (type === 'array' && Array.isArray(value)) checkList(value, schema, path, checking)
  else if (anyOf !== undefined && choicesOf(schema) === null) checkUnion(value, schema, path, checking)
  else checkLeaf(value, schema, path, checking)
}

function checkMapping (
  value: Readonly<Record<string, unknown>>,
  schema: TSchema,
  path: Path,
  checking: Checking
): void {
  const { properties = {}, required = [], patternProperties, minProperties = 0 } = shapeOf(schema)
  const known = Object.keys(properties)
  for (const [key, member] of Object.entries(value)) {
    const expected = memberSchema(schema, key)
    if (expected !== undefined) check(member, expected, [...path, key], checking)
    else if (patternProperties !== undefined) {
      checking.report([...path, key], 'key', badName(path, key, Object.keys(patternProperties)))
    } else checking.report([...path, key], 'key', unknownKey(path, key, known))
  }
  if (Object.keys(value).length < minProperties) {
    checking.report(
      path,
      'value',
      `${nameOf(path)} must have at least ${minProperties === 1 ? 'one entry' : `${minProperties} entries`}`
    )
  }
  const unknown = Object.keys(value).filter(key => memberSchema(schema, key) === undefined)
  for (const key of required) {
    // A misspelt required key has already been reported as an unknown key.
    if (Object.hasOwn(value, key) || (unknown.length > 0 && closest(key, unknown) !== null)) continue
    const { description } = shapeOf(properties[key] ?? {})
    checking.report(
      [...path, key],
      'key',
      `${nameOf([...path, key])} is required` + (description === undefined ? '' : ` (${description})`)
    )
  }
}

function checkList (value: readonly unknown[], schema: TSchema, path: Path, checking: Checking): void {
  const { items, ...shape } = shapeOf(schema)
  for (const [index, item] of value.entries()) if (items !== undefined) check(item, items, [...path, index], checking)
  for (const error of typeboxLibrary().Errors(shape as TSchema, value)) {
    checking.report(path, 'value', explain(error, value, schema, path, checking))
  }
}

function checkUnion (value: unknown, schema: TSchema, path: Path, checking: Checking): void {
  if (typeboxLibrary().Check(schema, value)) return
  const branch = branchFor(schema, value)
  if (branch !== null) check(value, branch, path, checking)
  else {
    checking.report(
      path,
      'value',
      `${nameOf(path)} must be ${expectation(schema)}; found ${found(value, schema, path, checking)}`
    )
  }
}

function checkLeaf (value: unknown, schema: TSchema, path: Path, checking: Checking): void {
  const choices = choicesOf(schema)
  if (choices !== null) {
    if (choices.includes(value)) return
    const isShown = typeof value === 'string' && !isConcealed(schema, path, checking)
    checking.report(
      path,
      'value',
      `${nameOf(path)} must be ${expectation(schema)}; found ${found(value, schema, path, checking)}` +
        (isShown ? didYouMean(value, choices.map(String)) : '')
    )
    return
  }
  const errors = typeboxLibrary().Errors(schema, value)
  const wrongType = errors.find(error => error.keyword === 'type')
  for (const error of wrongType === undefined ? errors : [wrongType]) {
    checking.report(path, 'value', explain(error, value, schema, path, checking))
  }
}

function explain (
  error: TLocalizedValidationError,
  value: unknown,
  schema: TSchema,
  path: Path,
  checking: Checking
): string {
  const name = nameOf(path)
  switch (error.keyword) {
    case 'type':
      return `${name} must be ${expectation(schema)}; found ` +
        `${found(value, schema, path, checking)}${quoteHint(value, schema)}`
    case 'minimum':
      return `${name} must be at least ${error.params.limit}; found ${found(value, schema, path, checking)}`
    case 'maximum':
      return `${name} must be at most ${error.params.limit}; found ${found(value, schema, path, checking)}`
    case 'exclusiveMinimum':
      return `${name} must be more than ${error.params.limit}; found ${found(value, schema, path, checking)}`
    case 'exclusiveMaximum':
      return `${name} must be less than ${error.params.limit}; found ${found(value, schema, path, checking)}`
    case 'minLength':
      return `${name} must have at least ${error.params.limit} characters`
    case 'maxLength':
      return `${name} must have at most ${error.params.limit} characters`
    case 'minItems':
      return `${name} must have at least ${error.params.limit} ${error.params.limit === 1 ? 'item' : 'items'}`
    case 'maxItems':
      return `${name} must have at most ${error.params.limit} items`
    case 'uniqueItems':
      return `${name} must not contain an item twice`
    case 'pattern':
      return `${name} must be ${shapeOf(schema).expected ?? `a string that matches ${error.params.pattern}`}; ` +
        `found ${found(value, schema, path, checking)}${strangeHint(value, schema, path, checking)}`
    default:
      return `${name} ${error.message}`
  }
}

/** The dotted name of a path: `server.port`. List indexes are in brackets. */
export function nameOf (path: Path): string {
  if (path.length === 0) return 'the file'
  const steps = path.map(step => typeof step === 'number' ? `[${step}]` : `.${step}`).join('')
  return typeof path[0] === 'number' ? steps : steps.slice(1)
}

function unknownKey (path: Path, key: string, known: readonly string[]): string {
  const place = path.length === 0 ? '' : ` in ${nameOf(path)}`
  return `unknown key "${key}"${place}${strangeCharacterHint(key)}${didYouMeanOrKnown(key, known)}`
}

function badName (path: Path, key: string, patterns: readonly string[]): string {
  return `"${key}" is not a valid name in ${nameOf(path)}; names must match ` +
    `${patterns.join(' or ')}${strangeCharacterHint(key)}`
}

function expectation (schema: TSchema): string {
  const choices = choicesOf(schema)
  if (choices !== null) return choices.length === 1 ? show(choices[0]) : `one of ${choices.map(show).join(', ')}`
  const { type, anyOf } = shapeOf(schema)
  if (anyOf !== undefined) return anyOf.map(expectation).join(' or ')
  return type === undefined ? 'something else' : NOUNS[type]
}

const NOUNS = {
  object: 'a mapping',
  array: 'a list',
  string: 'a string',
  number: 'a number',
  integer: 'a whole number',
  boolean: 'true or false',
  null: 'empty'
} as const

function found (value: unknown, schema: TSchema, path: Path, checking: Checking): string {
  if (value === null || value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'a mapping'
  if (isConcealed(schema, path, checking)) {
    return typeof value === 'string' ? 'a string (not shown)' : `a ${typeof value} (not shown)`
  }
  if (typeof value === 'string') return `the string ${show(value)}`
  return typeof value === 'number' ? `the number ${value}` : String(value)
}

function isConcealed (schema: TSchema, path: Path, checking: Checking): boolean {
  return shapeOf(schema).secret === true || checking.conceal(path)
}

function strangeHint (value: unknown, schema: TSchema, path: Path, checking: Checking): string {
  return typeof value === 'string' && !isConcealed(schema, path, checking) ? strangeCharacterHint(value) : ''
}

function quoteHint (value: unknown, schema: TSchema): string {
  return shapeOf(schema).type === 'string' && (typeof value === 'number' || typeof value === 'boolean')
    ? '; write it in quotes'
    : ''
}

function show (value: unknown): string {
  if (typeof value !== 'string') return String(value)
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
}

function isMapping (value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

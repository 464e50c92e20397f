import type { TSchema } from 'typebox'

/**
 * A JSON Schema as a plain object, with the keywords that {@link compileSchema} knows. TypeBox would build the same,
 * but loading it takes longer than loading the rest of this package.
 */
export interface JsonSchema extends TSchema {
  readonly [keyword: string]: unknown
}

type Keywords = Readonly<Record<string, unknown>>

/** A member that may be missing; see {@link object}. */
interface OptionalMember { readonly optional: JsonSchema }

export const text = (keywords: Keywords = {}): JsonSchema => ({ type: 'string', ...keywords })

export const list = (items: JsonSchema, keywords: Keywords = {}): JsonSchema => ({ type: 'array', items, ...keywords })

export const oneOf = (...anyOf: readonly JsonSchema[]): JsonSchema => ({ anyOf })

export const optional = (schema: JsonSchema): OptionalMember => ({ optional: schema })

/** An object with no other members than these. */
export function object (members: Readonly<Record<string, JsonSchema | OptionalMember>>): JsonSchema {
  const isOptional = (member: JsonSchema | OptionalMember): member is OptionalMember => 'optional' in member
  const entries = Object.entries(members)
  const required = entries.filter(([, member]) => !isOptional(member)).map(([name]) => name)
  const properties = entries.map(([name, member]) => [name, isOptional(member) ? member.optional : member])
  return {
    type: 'object',
    ...(required.length === 0 ? {} : { required }),
    properties: Object.fromEntries(properties) as unknown,
    additionalProperties: false
  }
}

/** An object whose members have names that match a pattern. */
export const record = (pattern: string, values: JsonSchema, keywords: Keywords = {}): JsonSchema => ({
  type: 'object',
  patternProperties: { [pattern]: values },
  ...keywords,
  additionalProperties: false
})

/** Says whether a value matches the schema. */
export type Matches = (value: unknown) => boolean

type Compile = (argument: never) => Matches

/** Keywords that are no check of their own: objects are always closed. */
const NOTES = ['description', 'expected', 'additionalProperties']

const KEYWORDS: Readonly<Record<string, Compile>> = {
  type: (type: keyof typeof TYPES) => TYPES[type],
  const: (only: unknown) => value => value === only,
  enum: (choices: readonly unknown[]) => value => choices.includes(value),
  anyOf: (branches: readonly JsonSchema[]) => {
    const matchers = branches.map(compileSchema)
    return value => matchers.some(matches => matches(value))
  },
  pattern: (pattern: string) => {
    const expression = new RegExp(pattern, 'u')
    return value => expression.test(value as string)
  },
  minLength: (least: number) => value => [...value as string].length >= least,
  maxLength: (most: number) => value => (value as string).length <= most || [...value as string].length <= most,
  items: (schema: JsonSchema) => {
    const matches = compileSchema(schema)
    return value => (value as readonly unknown[]).every(matches)
  },
  maxItems: (most: number) => value => (value as readonly unknown[]).length <= most,
  minItems: (least: number) => value => (value as readonly unknown[]).length >= least,
  uniqueItems: () => value => areUnique(value as readonly unknown[]),
  required: (names: readonly string[]) => value => names.every(name => Object.hasOwn(value as object, name)),
  minProperties: (least: number) => value => Object.keys(value as object).length >= least,
  properties: (properties: Readonly<Record<string, JsonSchema>>) => {
    const members = new Map(Object.entries(properties).map(([name, schema]) => [name, compileSchema(schema)]))
    return value => Object.entries(value as object).every(([name, member]) => members.get(name)?.(member) === true)
  },
  patternProperties: (patterns: Readonly<Record<string, JsonSchema>>) => {
    const [[pattern = '', schema = {}] = []] = Object.entries(patterns)
    const expression = new RegExp(pattern, 'u')
    const matches = compileSchema(schema)
    return value => Object.entries(value as object).every(([name, member]) => expression.test(name) && matches(member))
  }
}

const TYPES: Readonly<Record<'object' | 'array' | 'string' | 'number', Matches>> = {
  object: value => typeof value === 'object' && value !== null && !Array.isArray(value),
  array: Array.isArray,
  string: value => typeof value === 'string',
  number: value => typeof value === 'number' && Number.isFinite(value)
}

/** Throws for a keyword that it does not know, which would otherwise restrict nothing. */
export function compileSchema (schema: JsonSchema): Matches {
  const { type, ...others } = schema
  const entries = Object.entries(others).filter(([keyword]) => !NOTES.includes(keyword))
  // First the type: the other keywords rely on it.
  const checks = [...(type === undefined ? [] : [['type', type] as const]), ...entries].map(([keyword, argument]) => {
    const compile = KEYWORDS[keyword]
    if (compile === undefined) throw new Error(`the keyword "${keyword}" of a JSON Schema is not known here`)
    return compile(argument as never)
  })
  return value => checks.every(matches => matches(value))
}

function areUnique (items: readonly unknown[]): boolean {
  const keys = items.map(item =>
    typeof item === 'object' && item !== null ? JSON.stringify(item, Object.keys(item).sort()) : item)
  return new Set(keys).size === items.length
}

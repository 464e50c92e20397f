import type { TSchema } from 'typebox'
import { typeboxLibrary } from './lazy-libraries.js'
import { choicesOf, isNullable, shapeOf } from './schema-shape.js'

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i
const BOOLEANS: ReadonlyMap<string, boolean> = new Map([['true', true], ['false', false]])

/**
 * Converts a string to the type that the schema expects: a number, `true` or `false`, a member of an enumeration, a
 * comma-separated list, or null for an empty string or `null` if the field may be null. A string that cannot be
 * converted is returned unchanged, and the schema check refuses it.
 */
export function coerce (text: string, schema: TSchema): unknown {
  const choices = choicesOf(schema)
  if (choices !== null) {
    const index = choices.findIndex(choice => String(choice) === text)
    return index === -1 ? text : choices[index]
  }
  const { type, items, anyOf } = shapeOf(schema)
  if (anyOf !== undefined) return coerceUnion(text, schema, anyOf)
  const trimmed = text.trim()
  switch (type) {
    case 'integer':
    case 'number':
      return NUMBER.test(trimmed) ? Number(trimmed) : text
    case 'boolean':
      return BOOLEANS.get(trimmed) ?? text
    case 'array':
      if (items === undefined) return text
      return trimmed === '' ? [] : text.split(',').map(item => coerce(item.trim(), items))
    default:
      return text
  }
}

function coerceUnion (text: string, schema: TSchema, branches: readonly TSchema[]): unknown {
  if (isNullable(schema) && (text === '' || text === 'null')) return null
  for (const branch of branches) {
    const value = coerce(text, branch)
    if (typeboxLibrary().Check(branch, value)) return value
  }
  const only = branches.filter(branch => !isNullable(branch))
  return only.length === 1 ? coerce(text, only[0]!) : text
}

import type { TSchema } from 'typebox'
import { Value } from 'typebox/value'
import { choicesOf, isNullable, shapeOf } from './schema-shape.js'

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i

/**
 * The value a text stands for where the schema expects something else than text: numbers, `true` and `false`, the
 * members of a closed list, comma separated lists, and nothing for a field that may be null. A text that stands for
 * nothing of the kind comes back as it is, for the schema check to refuse.
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
      return trimmed === 'true' ? true : trimmed === 'false' ? false : text
    case 'array':
      return items === undefined ? text : trimmed === '' ? [] : text.split(',').map(item => coerce(item.trim(), items))
    default:
      return text
  }
}

function coerceUnion (text: string, schema: TSchema, branches: readonly TSchema[]): unknown {
  if (isNullable(schema) && (text === '' || text === 'null')) return null
  for (const branch of branches) {
    const value = coerce(text, branch)
    if (Value.Check(branch, value)) return value
  }
  const only = branches.filter(branch => !isNullable(branch))
  return only.length === 1 ? coerce(text, only[0]!) : text
}

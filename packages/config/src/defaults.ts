import type { TSchema } from 'typebox'
import { branchFor, isNullable, memberSchema, shapeOf } from './schema-shape.js'

/**
 * Copies a value and fills in the schema's defaults for missing settings. A section with only optional settings can be
 * left out or empty (`server:` with every line below it commented out).
 */
export function withDefaults (value: unknown, schema: TSchema): unknown {
  const { type, properties, default: standing } = shapeOf(schema)
  if (value === undefined || (value === null && type === 'object')) {
    if (standing !== undefined) return withDefaults(structuredClone(standing), schema)
    if (type === 'object' && properties !== undefined) return withDefaults({}, schema)
    return value === null ? {} : undefined
  }
  if (Array.isArray(value)) {
    const items = memberSchema(schema, 0)
    return items === undefined ? value : value.map(item => withDefaults(item, items))
  }
  if (typeof value !== 'object' || value === null) return value
  return mapping(
    value as Readonly<Record<string, unknown>>,
    type === undefined ? (branchFor(schema, value) ?? schema) : schema
  )
}

function mapping (value: Readonly<Record<string, unknown>>, schema: TSchema): Record<string, unknown> {
  const { properties = {}, required = [] } = shapeOf(schema)
  const complete: Record<string, unknown> = {}
  for (const [key, member] of Object.entries(properties)) {
    const given = Object.hasOwn(value, key) ? value[key] : undefined
    const wanted = given !== undefined || required.includes(key) || shapeOf(member).default !== undefined
    const filled = wanted ? withDefaults(given, member) : undefined
    if (filled !== undefined) complete[key] = filled
    else if (given === null && isNullable(member)) complete[key] = null
  }
  for (const [key, given] of Object.entries(value)) {
    if (Object.hasOwn(properties, key)) continue
    const member = memberSchema(schema, key)
    complete[key] = member === undefined ? given : withDefaults(given, member)
  }
  return complete
}

import type { TSchema } from 'typebox'

/** The JSON Schema members of a TypeBox schema that this package understands. */
export interface SchemaShape {
  readonly type?: 'object' | 'array' | 'string' | 'number' | 'integer' | 'boolean' | 'null'
  readonly properties?: Readonly<Record<string, TSchema>>
  readonly required?: readonly string[]
  readonly patternProperties?: Readonly<Record<string, TSchema>>
  readonly minProperties?: number
  readonly items?: TSchema
  readonly anyOf?: readonly TSchema[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly default?: unknown
  readonly description?: string
  /** Describes what `pattern` requires, in words that fit after "must be". Set as a TypeBox option. */
  readonly expected?: string
  /** Whether the value must never be shown. Set as a TypeBox option of the field. */
  readonly secret?: boolean
}

export function shapeOf (schema: TSchema): SchemaShape {
  return schema as SchemaShape
}

/** The schema of one member of a value; undefined when the schema has no such member. */
export function memberSchema (schema: TSchema, key: string | number): TSchema | undefined {
  const { properties, patternProperties, items, anyOf } = shapeOf(schema)
  if (typeof key === 'number') return items ?? firstMember(anyOf, key)
  if (properties !== undefined && Object.hasOwn(properties, key)) return properties[key]
  for (const [pattern, member] of Object.entries(patternProperties ?? {})) {
    if (new RegExp(pattern, 'u').test(key)) return member
  }
  return firstMember(anyOf, key)
}

/** The allowed values, when the schema is an enumeration; otherwise null. */
export function choicesOf (schema: TSchema): readonly unknown[] | null {
  const shape = shapeOf(schema)
  if (shape.enum !== undefined) return shape.enum
  if (Object.hasOwn(shape, 'const')) return [shape.const]
  if (shape.anyOf === undefined) return null
  const choices = shape.anyOf.map(choicesOf)
  return choices.every(list => list !== null) ? choices.flat() : null
}

/** The branch of a union that matches the type of a value. */
export function branchFor (schema: TSchema, value: unknown): TSchema | null {
  const branches = (shapeOf(schema).anyOf ?? []).filter(branch => shapeOf(branch).type === kindOf(value))
  return branches.length === 1 ? branches[0]! : null
}

/** Whether the schema allows null. */
export function isNullable (schema: TSchema): boolean {
  const { type, anyOf } = shapeOf(schema)
  return type === 'null' || (anyOf ?? []).some(isNullable)
}

function firstMember (branches: readonly TSchema[] | undefined, key: string | number): TSchema | undefined {
  for (const branch of branches ?? []) {
    const member = memberSchema(branch, key)
    if (member !== undefined) return member
  }
  return undefined
}

function kindOf (value: unknown): SchemaShape['type'] {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'array'
  switch (typeof value) {
    case 'object': return 'object'
    case 'string': return 'string'
    case 'number': return 'number'
    case 'boolean': return 'boolean'
    default: return undefined
  }
}

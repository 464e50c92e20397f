import type { TSchema } from 'typebox'
import type { LoadedConfig, Origin } from './load-config.js'
import { branchFor, memberSchema, shapeOf } from './schema-shape.js'

const MASK = '********'

/** One setting, safe to display. */
export interface ShownSetting {
  /** `server.port`. */
  readonly key: string
  /** The value; masked when the schema marks it `secret`. */
  readonly value: unknown
  readonly origin: Origin
  readonly description: string | null
}

/** Lists every setting with its origin, in the order of the schema, with secrets masked. The result is plain JSON. */
export function showConfig<Schema extends TSchema> (loaded: LoadedConfig<Schema>): readonly ShownSetting[] {
  const shown: ShownSetting[] = []
  const walk = (value: unknown, schema: TSchema | undefined, path: readonly string[]): void => {
    const key = path.join('.')
    const origin = loaded.origins.get(key)
    if (origin !== undefined) {
      shown.push({ key, value, origin, description: schema === undefined ? null : shapeOf(schema).description ?? null })
    } else if (typeof value === 'object' && value !== null) {
      for (const [name, member] of Object.entries(value)) {
        walk(member, schema === undefined ? undefined : memberSchema(schema, name), [...path, name])
      }
    }
  }
  walk(maskSecrets(loaded.value, loaded.schema), loaded.schema, [])
  return shown
}

/** Formats the settings as lines of text: `server.port = 8002  (default)`. */
export function formatConfig (settings: readonly ShownSetting[]): string {
  const assignments = settings.map(({ key, value }) => `${key} = ${JSON.stringify(value)}`)
  const width = Math.min(60, Math.max(0, ...assignments.map(line => line.length)))
  return settings.map(({ origin }, index) => `${assignments[index]!.padEnd(width)}  (${origin})`).join('\n')
}

/** Copies a value and masks everything that the schema marks `secret`. Empty secrets stay empty. */
export function maskSecrets (value: unknown, schema: TSchema): unknown {
  if (value === null || value === undefined || value === '') return value
  const chosen = shapeOf(schema).type === undefined ? branchFor(schema, value) ?? schema : schema
  if (shapeOf(schema).secret === true || shapeOf(chosen).secret === true) return MASK
  if (Array.isArray(value)) {
    const items = memberSchema(chosen, 0)
    return items === undefined ? value : value.map(item => maskSecrets(item, items))
  }
  if (typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, member]) => {
    const schemaOfMember = memberSchema(chosen, key)
    return [key, schemaOfMember === undefined ? member : maskSecrets(member, schemaOfMember)]
  }))
}

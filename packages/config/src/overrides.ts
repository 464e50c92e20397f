import { didYouMean } from '@marty/core'
import type { TSchema } from 'typebox'
import { coerce } from './coerce.js'
import type { SourceProblem } from './problem.js'
import { choicesOf, shapeOf } from './schema-shape.js'

/** A setting that an environment variable overrides. */
export interface Override {
  readonly name: string
  readonly path: readonly string[]
  readonly value: unknown
}

/**
 * Reads `PREFIX_SECTION_KEY` variables. A variable that begins with the prefix but names no setting is a mistake,
 * because a misspelt override must not be ignored.
 */
export function readOverrides (
  schema: TSchema,
  prefix: string,
  env: Readonly<Record<string, string | undefined>>,
  reserved: readonly string[]
): { overrides: Override[], problems: SourceProblem[] } {
  const settings = namedSettings(schema, prefix)
  const overrides: Override[] = []
  const problems: SourceProblem[] = []
  for (const [name, text] of Object.entries(env)) {
    if (text === undefined || !name.startsWith(`${prefix}_`) || reserved.includes(name) || isServiceLink(name, text)) {
      continue
    }
    const setting = settings.get(name)
    if (setting !== undefined) {
      overrides.push({ name, path: setting.path, value: coerce(text, setting.schema) })
      continue
    }
    const message = `is not the name of a setting${didYouMean(name, settings.keys())}`
    problems.push({ source: `environment ${name}`, line: 0, column: 0, message })
  }
  return { overrides, problems }
}

/** Every setting that one variable can hold: scalars and lists of scalars. */
function namedSettings (schema: TSchema, prefix: string): Map<string, { path: string[], schema: TSchema }> {
  const settings = new Map<string, { path: string[], schema: TSchema }>()
  const walk = (member: TSchema, path: string[]): void => {
    const { properties, patternProperties } = shapeOf(member)
    if (properties !== undefined) {
      for (const [key, inner] of Object.entries(properties)) walk(inner, [...path, key])
      return
    }
    if (patternProperties !== undefined || !isFlat(member)) return
    const name = [prefix, ...path].join('_').toUpperCase()
    const other = settings.get(name)
    if (other !== undefined) {
      throw new TypeError(
        `settings ${other.path.join('.')} and ${path.join('.')} would share the variable ${name}; rename one`
      )
    }
    settings.set(name, { path, schema: member })
  }
  walk(schema, [])
  return settings
}

function isFlat (schema: TSchema): boolean {
  if (choicesOf(schema) !== null) return true
  const { type, items, anyOf } = shapeOf(schema)
  if (anyOf !== undefined) return anyOf.every(isFlat)
  if (type === 'array') return items !== undefined && shapeOf(items).type !== 'array' && isFlat(items)
  return type !== undefined && type !== 'object'
}

/**
 * Kubernetes sets variables in every pod for each Service of its namespace. A Service named `camera-service` produces
 * `CAMERA_SERVICE_SERVICE_HOST`, `CAMERA_SERVICE_PORT=tcp://…` and others, which are not meant as overrides.
 */
function isServiceLink (name: string, text: string): boolean {
  return (
    /_SERVICE_HOST$|_SERVICE_PORT(?:_[A-Z0-9_]+)?$|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?$/.test(name) ||
    (name.endsWith('_PORT') && /^(?:tcp|udp|sctp):\/\//.test(text))
  )
}

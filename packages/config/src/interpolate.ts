import { readFileSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import type { TSchema } from 'typebox'
import { coerce } from './coerce.js'
import { memberSchema, shapeOf } from './schema-shape.js'
import type { Path } from './yaml-source.js'

export interface InterpolationContext {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Base directory of relative `${file:…}` paths. */
  readonly baseDir: string
  /** Whether an environment variable replaces the setting at a path, so that its references need not resolve. */
  readonly skip: (path: Path) => boolean
  readonly report: (path: Path, message: string) => void
  /** Called for every value that contained a reference: it may now hold a secret. */
  readonly replaced: (path: Path) => void
}

/**
 * Copies a value and replaces `${NAME}`, `${NAME:default}` and `${file:/path}` inside its strings. `$${` stands for a
 * literal `${`. A string with a reference is then converted as the schema requires: `${PORT:8002}` becomes a number.
 */
export function interpolate (
  value: unknown,
  schema: TSchema | undefined,
  path: Path,
  context: InterpolationContext
): unknown {
  // Settings that the schema does not know are refused later, so no variable or file is read for them.
  if (schema === undefined || context.skip(path)) return value
  if (typeof value === 'string') return value.includes('${') ? replace(value, schema, path, context) : value
  if (Array.isArray(value)) {
    return value.map((item, index) => interpolate(item, memberSchema(schema, index), [...path, index], context))
  }
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, member]) => [
        key,
        interpolate(member, memberSchema(schema, key), [...path, key], context)
      ])
    )
  }
  return value
}

const REFERENCE = /\$\$\{|\$\{([^}]*)\}|\$\{/g
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/

function replace (text: string, schema: TSchema, path: Path, context: InterpolationContext): unknown {
  let referred = false
  let failed = false
  const replaced = text.replace(REFERENCE, (match: string, reference: string | undefined) => {
    if (match === '$${') return '${'
    const answer = reference === undefined ? unclosed : resolveReference(reference, context)
    if ('problem' in answer) {
      context.report(path, answer.problem)
      failed = true
      return ''
    }
    referred = true
    return answer.value
  })
  if (referred || failed) context.replaced(path)
  if (failed) return undefined
  return referred && shapeOf(schema).type !== 'string' ? coerce(replaced, schema) : replaced
}

const unclosed: Answer = { problem: '"${" has no closing brace; write "$${" for a literal "${"' }

type Answer = { readonly value: string } | { readonly problem: string }

function resolveReference (reference: string, context: InterpolationContext): Answer {
  const colon = reference.indexOf(':')
  const name = colon === -1 ? reference : reference.slice(0, colon)
  if (name === 'file' && colon !== -1) return readSecretFile(reference.slice(colon + 1), context.baseDir)
  if (!NAME.test(name)) {
    return { problem: `"\${${name}}" does not name a variable; use letters, digits and _, or \${file:/path}` }
  }
  const value = context.env[name] ?? (colon === -1 ? undefined : reference.slice(colon + 1))
  return value === undefined
    ? { problem: `the variable ${name} is not set; set it, or give a default: \${${name}:default}` }
    : { value }
}

/** Secrets are short: a path to a device or a huge file is a mistake. */
const MAX_FILE_BYTES = 1024 * 1024

function readSecretFile (name: string, baseDir: string): Answer {
  const file = resolve(baseDir, name)
  try {
    const stats = statSync(file)
    if (!stats.isFile()) return { problem: `${name} is not a regular file` }
    if (stats.size > MAX_FILE_BYTES) return { problem: `${name} is larger than ${MAX_FILE_BYTES} bytes` }
    // Editors and `echo` end files with a line break that does not belong to the secret.
    return { value: readFileSync(file, 'utf8').replace(/\r?\n$/, '') }
  } catch (error) {
    return { problem: `${name} cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown reason'})` }
  }
}

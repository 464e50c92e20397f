import { closest } from '@marty/core'
import { Compile } from 'typebox/compile'
import { Errors } from 'typebox/value'
import type { TObject, TSchema } from 'typebox'
import { ParamsInvalid } from './errors.js'

/** One mistake in the params. `path` is for example `filters.device`; it is empty for the params as a whole. */
export interface ParamsMistake {
  readonly path: string
  readonly message: string
}

/** Messages repeat at most this many characters of a name that the caller sent, and no values: they may be secret. */
const MAX_NAME_LENGTH = 64
const MAX_MISTAKES = 32

/**
 * Compiles the validation of one method's params. It returns the params, or throws `MARTY_JSON_RPC_PARAMS_INVALID`,
 * which lists every mistake.
 */
export function compileParams (schema: TObject): (params: object | undefined) => object {
  const validator = Compile(schema as TSchema)
  return params => {
    if (params === undefined) params = {}
    if (Array.isArray(params)) {
      if (params.length > 0) throw invalid([{ path: '', message: 'params must be given by name, as an object' }])
      params = {}
    }
    if (validator.Check(params)) return params
    throw invalid(findMistakes(schema, params as Record<string, unknown>))
  }
}

function findMistakes (schema: TObject, params: Record<string, unknown>): ParamsMistake[] {
  const mistakes: ParamsMistake[] = []
  const known = Object.keys(schema.properties)
  const unknown = Object.keys(params).filter(name => !Object.hasOwn(schema.properties, name))
  if ((schema as { additionalProperties?: unknown }).additionalProperties === false) {
    for (const name of unknown.slice(0, MAX_MISTAKES)) {
      const near = closest(name.slice(0, MAX_NAME_LENGTH), known)
      mistakes.push({
        path: name.slice(0, MAX_NAME_LENGTH),
        message: 'is not a parameter of this method' + (near === null ? '' : `; did you mean "${near}"?`)
      })
    }
  }
  for (const name of schema.required ?? []) {
    if (!Object.hasOwn(params, name)) mistakes.push({ path: name, message: 'is required' })
  }
  for (const name of known) {
    if (Object.hasOwn(params, name)) mistakes.push(...propertyMistakes(name, schema.properties[name]!, params[name]))
  }
  // Constraints across properties, such as minProperties.
  if (mistakes.length === 0) mistakes.push(...propertyMistakes('', schema as TSchema, params))
  return mistakes.slice(0, MAX_MISTAKES)
}

function propertyMistakes (name: string, schema: TSchema, value: unknown): ParamsMistake[] {
  const byPath = new Map<string, { messages: Set<string>, allowed: unknown[] }>()
  for (const error of Errors(schema, value)) {
    // The validator reports an unknown member twice: for the member and for the object that contains it.
    if (error.keyword === 'additionalProperties' || error.keyword === 'anyOf') continue
    const path = [
      name,
      ...error.instancePath
        .split('/')
        .slice(1)
        .map(part => part.slice(0, MAX_NAME_LENGTH))
    ]
      .filter(part => part !== '')
      .join('.')
    const found = byPath.get(path) ?? { messages: new Set<string>(), allowed: [] }
    byPath.set(path, found)
    if (error.keyword === 'const') found.allowed.push((error.params as { allowedValue: unknown }).allowedValue)
    else if (error.keyword === 'boolean') found.messages.add('is not known here')
    else found.messages.add(error.message)
  }
  return [...byPath].map(([path, { messages, allowed }]) => {
    if (allowed.length > 0) messages.add(`must be ${allowed.map(one => JSON.stringify(one)).join(' or ')}`)
    return { path, message: [...messages].join(', or ') }
  })
}

function invalid (errors: readonly ParamsMistake[]): Error {
  const first = errors[0]
  const detail =
    first === undefined
      ? ''
      : `: ${first.path === '' ? '' : `${first.path} `}${first.message}` +
        (errors.length > 1 ? ` (and ${errors.length - 1} more)` : '')
  return new ParamsInvalid({ message: `Invalid params${detail}`, data: { errors } })
}

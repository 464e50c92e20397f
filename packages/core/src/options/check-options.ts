import { didYouMean, didYouMeanOrKnown } from '../did-you-mean.js'
import { expectedOf, shownOf } from './option-words.js'
import type { AnySpec, AnyTable, OptionTable } from './option-table.js'

/** What is wrong with one option: `{ field: 'cors.maxAgeSeconds', problem: 'must be an integer from 0 to 7200' }`. */
export interface OptionProblem {
  /** The path of the option. Empty for the options as a whole. */
  readonly field: string
  /** The end of a sentence that begins with the option. */
  readonly problem: string
}

/** Where options belong, and how they are refused. */
export interface OptionScope {
  /** Begins every line of the message: `headers` for `headers option "api" must be true or false`. */
  readonly subject: string
  /** Creates the error. The message has one line for each problem. */
  readonly refuse: (message: string, problems: readonly OptionProblem[]) => Error
  /**
   * Whether these are the options of a Fastify plugin: then they may contain the options of Fastify's `register`
   * (`prefix`, `logLevel`, `logSerializers`), which the result leaves out.
   * @default false
   */
  readonly isPlugin?: boolean
  /** The path of these options, when they are part of larger ones, such as `sessions`. @default '' */
  readonly at?: string
}

/** Fastify passes the options of `register` to the plugin, together with the plugin's own. */
const REGISTER_OPTIONS: readonly string[] = ['prefix', 'logLevel', 'logSerializers']

/**
 * Checks options against their table and fills in the defaults. The result is a frozen copy; lists and nested tables
 * are copied too. Members that are undefined count as left out. Refuses unknown options, missing ones and invalid ones,
 * all in one error; a message shows short invalid values, but never one whose declaration says `secret`.
 *
 * @throws the error of `scope.refuse`
 */
export function checkOptions<Given extends object, Checked extends object> (
  table: OptionTable<Given, Checked>,
  given: Given | undefined,
  scope: OptionScope
): Readonly<Checked> {
  const problems: OptionProblem[] = []
  const { at = '', isPlugin = false } = scope
  const ignored = isPlugin ? REGISTER_OPTIONS : []
  const checked = checkTable(table as AnyTable, given === undefined ? {} : given, at, problems, ignored)
  if (problems.length > 0) throw optionsInvalid(scope, problems)
  return checked as Checked
}

/** Creates the error for problems that a table cannot express, such as two options that exclude each other. */
export function optionsInvalid (scope: OptionScope, problems: readonly OptionProblem[]): Error {
  const lines = problems.map(({ field, problem }) => {
    return field === '' ? `${scope.subject} options ${problem}` : `${scope.subject} option "${field}" ${problem}`
  })
  return scope.refuse(lines.join('\n'), problems)
}

function checkTable (
  table: AnyTable,
  given: unknown,
  path: string,
  problems: OptionProblem[],
  ignored: readonly string[] = []
): unknown {
  if (!isObject(given)) {
    problems.push({ field: path, problem: `must be an object, not ${shownOf(given)}` })
    return given
  }
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(table, name) || ignored.includes(name)) continue
    problems.push({ field: join(path, name), problem: `is not known${didYouMeanOrKnown(name, Object.keys(table))}` })
  }
  const checked: Record<string, unknown> = {}
  for (const [name, spec] of Object.entries(table)) {
    const value = given[name] === undefined ? spec.default : given[name]
    if (value !== undefined) checked[name] = checkValue(spec, value, join(path, name), problems)
    else if (spec.optional === true) checked[name] = undefined
    else problems.push({ field: join(path, name), problem: `is required; it must be ${expectedOf(spec)}` })
  }
  return Object.freeze(checked)
}

function checkValue (spec: AnySpec, value: unknown, path: string, problems: OptionProblem[]): unknown {
  if (spec.or?.includes(value as string) === true) return value
  const count = problems.length
  const checked = checkKind(spec, value, path, problems)
  if (problems.length > count) return value
  const problem = spec.verify?.(value) ?? null
  if (problem !== null) problems.push({ field: path, problem })
  return checked
}

/** Returns the value, copied if it has parts. */
function checkKind (spec: AnySpec, value: unknown, path: string, problems: OptionProblem[]): unknown {
  if (!isOfKind(spec, value)) {
    const problem = `must be ${expectedOf(spec)}, not ${shownOf(value, spec)}${nearOf(spec, value)}`
    problems.push({ field: path, problem })
    return value
  }
  switch (spec.kind) {
    case 'list':
      return Object.freeze((value as unknown[]).map((item, index) => {
        return checkValue(spec.items, item, `${path}[${index}]`, problems)
      }))
    case 'object':
      return checkTable(spec.options, value, path, problems)
    case 'record':
      return checkRecord(spec, value as Record<string, unknown>, path, problems)
    case 'oneOf': {
      const forms = Object.entries(spec.forms)
      const [, form] = forms.find(([member]) => member in (value as object)) ?? forms.at(-1)!
      return checkKind(form, value, path, problems)
    }
    case 'either':
      return checkValue(spec.kinds.find(kind => isOfKind(kind, value))!, value, path, problems)
    default:
      return value
  }
}

function checkRecord (
  { names, values }: Extract<AnySpec, { kind: 'record' }>,
  given: Record<string, unknown>,
  path: string,
  problems: OptionProblem[]
): unknown {
  const members = Object.entries(given).filter(([, value]) => value !== undefined)
  return Object.freeze(Object.fromEntries(members.map(([name, value]) => {
    const field = join(path, name)
    if (names !== undefined && 'pattern' in names) {
      if (!names.pattern.test(name)) {
        problems.push({ field, problem: `has an invalid name: it must be ${names.expected}` })
      }
    } else if (names?.includes(name) === false) {
      problems.push({ field, problem: `is not known${didYouMeanOrKnown(name, names)}` })
    }
    return [name, checkValue(values, value, field, problems)]
  })))
}

/** Whether the value is of the kind, apart from its parts. */
function isOfKind (spec: AnySpec, value: unknown): boolean {
  switch (spec.kind) {
    case 'boolean':
      return typeof value === 'boolean'
    case 'integer':
      return Number.isSafeInteger(value) && isWithin(value as number, spec)
    case 'number':
      return Number.isFinite(value) && isWithin(value as number, spec)
    case 'string':
      return typeof value === 'string' && value !== '' && value.length <= (spec.maxLength ?? Infinity) &&
        (spec.pattern?.test(value) ?? true)
    case 'choice':
      return spec.choices.includes(value as string)
    case 'list':
      return Array.isArray(value) && value.length >= (spec.min ?? 0)
    case 'record':
      return isObject(value) && Object.keys(value).length >= (spec.min ?? 0)
    case 'object': case 'oneOf':
      return isObject(value)
    case 'either':
      return spec.kinds.some(kind => isOfKind(kind, value))
    case 'function':
      return typeof value === 'function'
    case 'custom':
      return spec.accepts(value)
  }
}

function isWithin (value: number, { min = -Infinity, above = -Infinity, max = Infinity }: {
  readonly min?: number
  readonly above?: number
  readonly max?: number
}): boolean {
  return value >= min && value > above && value <= max
}

function isObject (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Suggests the word that was probably meant. */
function nearOf (spec: AnySpec, value: unknown): string {
  if (typeof value !== 'string' || spec.secret === true) return ''
  const words = [...spec.or ?? [], ...spec.kind === 'choice' ? spec.choices : []]
  return didYouMean(value, words.filter(word => typeof word === 'string'))
}

function join (path: string, name: string): string {
  return path === '' ? name : `${path}.${name}`
}

import type { AnySpec } from './option-table.js'

const LONGEST_SHOWN = 40

/** What an option accepts, in words: `false or an integer from 0 to 7200`. */
export function expectedOf (spec: AnySpec): string {
  return alternatives([...(spec.or ?? []).map(word => JSON.stringify(word)), ...expectedOfKind(spec)])
}

/** One or more alternatives. */
function expectedOfKind (spec: AnySpec): string[] {
  switch (spec.kind) {
    case 'boolean':
      return ['true', 'false']
    case 'integer':
      return [`an integer ${rangeOf(spec)}`]
    case 'number':
      return [`a number ${rangeOf(spec)}`.trimEnd()]
    case 'string':
      return [spec.expected ?? defaultString(spec.maxLength)]
    case 'choice':
      return spec.choices.map(choice => JSON.stringify(choice))
    case 'list':
      return [`a list${atLeast(spec.min, 'item')}, each item ${expectedOf(spec.items)}`]
    case 'object':
      return [`an object { ${Object.keys(spec.options).join(', ')} }`]
    case 'record':
      return [`an object${atLeast(spec.min, 'member')}, each member ${expectedOf(spec.values)}`]
    case 'oneOf':
      return Object.values(spec.forms).flatMap(form => expectedOfKind(form))
    case 'either':
      return spec.kinds.flatMap(kind => expectedOfKind(kind))
    case 'function':
      return [spec.expected ?? 'a function']
    case 'custom':
      return [spec.expected]
  }
}

interface Range {
  readonly min?: number
  readonly above?: number
  readonly max?: number
}

function rangeOf ({ min, above, max }: Range): string {
  if (above !== undefined) return max === undefined ? `above ${above}` : `above ${above} and at most ${max}`
  if (min !== undefined) return max === undefined ? `of at least ${min}` : `from ${min} to ${max}`
  return max === undefined ? '' : `of at most ${max}`
}

function defaultString (maxLength: number | undefined): string {
  return maxLength === undefined ? 'a non-empty string' : `a string of 1 to ${maxLength} characters`
}

function atLeast (min: number = 0, what: string): string {
  return min === 0 ? '' : ` with at least ${min === 1 ? `one ${what}` : `${min} ${what}s`}`
}

function alternatives (words: readonly string[]): string {
  return words.length < 2 ? words.join() : `${words.slice(0, -1).join(', ')} or ${words.at(-1)!}`
}

/** The options whose strings are safe to repeat. A string in another place may be a secret that was put there. */
const SHOWS_STRINGS: ReadonlyArray<AnySpec['kind']> = ['boolean', 'integer', 'number', 'string', 'choice']

/**
 * A value as a message shows it. What may be a secret is only named: the values of secret options, long strings, and
 * strings with an `@`, which may be a URL with a password.
 */
export function shownOf (value: unknown, spec: AnySpec | null = null): string {
  if (value === null || value === undefined || typeof value === 'boolean') return String(value)
  if (value === '') return 'an empty string'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  const isSecret = spec?.secret ?? false
  switch (typeof value) {
    case 'number':
      return isSecret ? 'a number' : String(value)
    case 'string':
      return isSecret || !isShown(value, spec) ? `a string of ${value.length} characters` : JSON.stringify(value)
    case 'object':
      return Object.keys(value).length === 0 ? 'an empty object' : 'an object'
    default:
      return `a ${typeof value}`
  }
}

function isShown (value: string, spec: AnySpec | null): boolean {
  return spec !== null && SHOWS_STRINGS.includes(spec.kind) && value.length <= LONGEST_SHOWN && !value.includes('@')
}

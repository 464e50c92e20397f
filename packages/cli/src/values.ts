import { closest } from '@marty/core'
import { UsageError, type Values } from './command.js'
import { readNamedFile } from './policy-file.js'

/** An option from `parseArgs`, in the type that its command declared. */
export function text (values: Values, name: string): string | undefined {
  return values[name] as string | undefined
}

export function texts (values: Values, name: string): readonly string[] {
  return (values[name] ?? []) as readonly string[]
}

export function flag (values: Values, name: string): boolean {
  return values[name] === true
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 }

/** Converts `90s`, `15m`, `8h` or `1d` to seconds; `0` means no time at all. */
export function seconds (values: Values, name: string): number | undefined {
  const value = text(values, name)
  if (value === undefined) return undefined
  if (value === '0') return 0
  const [, amount, unit] = /^(\d{1,9})([smhd])$/.exec(value) ?? []
  if (amount === undefined) throw new UsageError(`--${name} "${value}" is not a time such as 90s, 15m, 8h or 1d`)
  return Number(amount) * UNITS[unit!]!
}

export function oneOf<Word extends string> (name: string, value: string, known: readonly Word[]): Word {
  if ((known as readonly string[]).includes(value)) return value as Word
  const near = closest(value, known)
  throw new UsageError(
    `${name} "${value}" is not known` +
      (near === null ? `; known are ${known.join(', ')}` : `; did you mean "${near}"?`)
  )
}

/**
 * Reads a secret from a file, because every process can see command lines. The secret is the text of the
 * file without the newline that an editor adds at its end. A file that is not text is refused: its bytes
 * would decode to a different secret here than in the service.
 */
export async function secretFile (values: Values, name: string): Promise<string> {
  const file = text(values, name)!
  const secret = await readNamedFile(file, 'keep a secret as text, such as "openssl rand -base64 48" prints')
  return secret.replace(/\r?\n$/, '')
}

/** Formats a table with a column for each heading, as wide as needed. */
export function table (headings: readonly string[], rows: ReadonlyArray<readonly string[]>): string {
  const widths = headings.map((heading, column) => Math.max(heading.length, ...rows.map(row => row[column]!.length)))
  return [headings, ...rows]
    .map(
      row =>
        row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join('  ')
          .trimEnd() + '\n'
    )
    .join('')
}

export function day (time: number): string {
  return new Date(time).toISOString().slice(0, 10)
}

export function json (value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

/** Parses a principal such as `user:alice`. */
export function principalOf (
  option: string,
  given: string
): { readonly kind: 'user' | 'service' | 'key', readonly id: string } {
  const colon = given.indexOf(':')
  if (colon < 1 || colon === given.length - 1) {
    throw new UsageError(`${option}"${given}" must be KIND:ID, such as user:alice`)
  }
  return { kind: oneOf(`${option}kind`, given.slice(0, colon), ['user', 'service', 'key']), id: given.slice(colon + 1) }
}

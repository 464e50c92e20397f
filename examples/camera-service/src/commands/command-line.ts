import { ConfigError } from '@marty/config'
import { closest } from '@marty/core'

/** The roles of the camera service, in ascending order of permissions. */
export const ROLES: readonly string[] = ['viewer', 'operator', 'monitor', 'admin']

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** Wrong arguments: printed with the help text, exit code 2. */
export class UsageError extends Error {}

/** Runs a command. Exit codes: 0 success, 1 failure, 2 wrong arguments. */
export async function runCommand (help: string, command: () => Promise<string>): Promise<void> {
  try {
    process.stdout.write(await command() + '\n')
  } catch (error) {
    const usage =
      error instanceof UsageError || (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') === true
    process.stderr.write(
      error instanceof ConfigError
        ? `The configuration is not valid:\n${error.message}\n`
        : `${(error as Error).message}\n`
    )
    if (usage) process.stderr.write('\n' + help + '\n')
    process.exitCode = usage ? 2 : 1
  }
}

export function roleOf (role: string | undefined): string {
  if (role === undefined) throw new UsageError('--role is missing')
  return oneOf('--role', role, ROLES)
}

/** Converts `90s`, `15m`, `8h` or `1d` to seconds. */
export function secondsOf (text: string): number {
  const [, amount, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  if (amount === undefined || unit === undefined || Number(amount) === 0) {
    throw new UsageError(`--ttl ${text} is not a time such as 90s, 15m, 8h or 1d`)
  }
  return Number(amount) * UNITS[unit]!
}

export function oneOf (what: string, word: string, known: readonly string[]): string {
  if (known.includes(word)) return word
  const near = closest(word, known)
  throw new UsageError(
    `${what} ${word} is not known` + (near === null ? `; use one of ${known.join(', ')}` : `; did you mean ${near}?`)
  )
}

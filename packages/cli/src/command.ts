/** The exit codes of the command. */
export const EXIT = {
  ok: 0,
  /** Unexpected error. */
  unexpected: 1,
  /** The command line is wrong, or names a file that cannot be read. */
  usage: 2,
  /** The examined file or token is not valid. */
  invalid: 3,
  /**
   * A policy test failed, generated types are out of date, or a
   * caller gains access where that is forbidden.
   */
  testFailed: 4,
  /** The named key or session does not exist. */
  notFound: 5,
  /** A required service, such as Redis, does not answer. */
  unavailable: 6,
  /** Nothing contradicts the examined log, but not all of it is proven. */
  unproven: 7
} as const

export type ExitCode = typeof EXIT[keyof typeof EXIT]

/** The output streams of a command. */
export interface Output {
  out (text: string): void
  err (text: string): void
}

/** Values of `parseArgs`, by option. */
export type Values = Readonly<Record<string, string | boolean | ReadonlyArray<string | boolean> | undefined>>

/** One command of the command line. */
export interface Command {
  /** `policy check`. */
  readonly name: string
  /** The arguments after the name, for the usage line. */
  readonly usage: string
  readonly summary: string
  readonly options: Readonly<
    Record<
      string,
      {
        readonly type: 'string' | 'boolean'
        readonly multiple?: boolean
        readonly help: string
        readonly required?: boolean
      }
    >
  >
  /** Names of the positional arguments, all required. */
  readonly positionals: readonly string[]
  run(positionals: readonly string[], values: Values, output: Output): Promise<ExitCode>
}

/** The command line is wrong. Reported without a stack trace. */
export class UsageError extends Error {}

/** How the command ends. */
export const EXIT = {
  ok: 0,
  /** Something that should not happen. */
  unexpected: 1,
  /** The command line is wrong, or names a file that cannot be read. */
  usage: 2,
  /** What was examined is not valid. */
  invalid: 3,
  /** A test of what was examined failed, what was generated from it has drifted, or somebody gains where nobody may. */
  testFailed: 4,
  /** What was named is not there. */
  notFound: 5,
  /** What is needed, such as Redis, does not answer. */
  unavailable: 6,
  /** Nothing contradicts what was examined, but not all of it is proven. */
  unproven: 7
} as const

export type ExitCode = typeof EXIT[keyof typeof EXIT]

/** Where a command writes. */
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
  /** What follows the name. */
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
  /** Names of what is given by position, all required. */
  readonly positionals: readonly string[]
  run(positionals: readonly string[], values: Values, output: Output): Promise<ExitCode>
}

/** The command line cannot be meant; told without a stack. */
export class UsageError extends Error {}

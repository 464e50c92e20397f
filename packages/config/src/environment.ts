/**
 * Reads one variable of the process environment; undefined when it is not set. All code reads the environment through
 * this function, so that every variable a program depends on is easy to find.
 */
export function environment (name: string): string | undefined {
  return process.env[name]
}

/** The whole process environment. */
export function processEnvironment (): Readonly<Record<string, string | undefined>> {
  return process.env
}

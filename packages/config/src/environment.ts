/**
 * One variable of the process environment; undefined when it is not set. Everything that needs the
 * environment asks here, so that what a program depends on can be found in one place.
 */
export function environment (name: string): string | undefined {
  return process.env[name]
}

/** The whole process environment. */
export function processEnvironment (): Readonly<Record<string, string | undefined>> {
  return process.env
}

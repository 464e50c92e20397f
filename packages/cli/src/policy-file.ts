import { formatProblem, type SourceProblem } from '@marty/config'
import type { Policy } from '@marty/rbac'
import { readFile, writeFile } from 'node:fs/promises'
import { EXIT, UsageError, type ExitCode, type Output } from './command.js'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Reads a file named on the command line. `advice` is added to the error if the file is not UTF-8. */
export async function readNamedFile (file: string, advice = 'save it in that encoding'): Promise<string> {
  let bytes: Buffer
  try {
    bytes = await readFile(file)
  } catch (error) {
    throw cannotBeRead(file, error)
  }
  try {
    return utf8.decode(bytes)
  } catch {
    throw new UsageError(`${file} cannot be read: it is not UTF-8; ${advice}`)
  }
}

/** Describes an error of the file system in words; any other error is returned unchanged. */
export function cannotBeRead (file: string, error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException
  if (code !== 'ENOENT' && syscall === undefined) return error
  return new UsageError(`${file} cannot be read: ${reasonOf(code, 'there is no such file')}`)
}

/** Returns the policy, or its problems. */
export async function readPolicyFile (
  file: string
): Promise<{ policy: Policy, problems: null } | { policy: null, problems: readonly SourceProblem[] }> {
  const text = await readNamedFile(file)
  // Load it only when needed: Casbin alone accounts for most of the startup time.
  const { loadPolicy, PolicyInvalid } = await import('@marty/rbac')
  try {
    return { policy: await loadPolicy(text, file), problems: null }
  } catch (error) {
    if (error instanceof PolicyInvalid) return { policy: null, problems: error.problems }
    throw error
  }
}

/** Reports every problem: as text on standard error, or as JSON on standard output. */
export function refuse (file: string, problems: readonly SourceProblem[], json: boolean, output: Output): ExitCode {
  if (json) output.out(`${JSON.stringify({ file, valid: false, problems }, null, 2)}\n`)
  else {
    output.err(
      `${problems.map(formatProblem).join('\n')}\n${file} is not valid: ${count(problems.length, 'problem')}\n`
    )
  }
  return EXIT.invalid
}

export function count (number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`
}

/** Writes a file named on the command line. */
export async function writeNamedFile (file: string, text: string): Promise<void> {
  try {
    await writeFile(file, text)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new UsageError(`${file} cannot be written: ${reasonOf(code, 'there is no such folder')}`)
  }
}

function reasonOf (code: string | undefined, missing: string): string | undefined {
  if (code === 'ENOENT') return missing
  return code === 'EISDIR' ? 'it is a folder' : code
}

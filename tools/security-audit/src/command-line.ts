import { parseArgs } from 'node:util'
import { audit } from './audit.js'
import { closest } from './closest.js'
import { AuditError } from './errors.js'
import { SEVERITIES, type Severity } from './finding.js'
import { printReport } from './print-report.js'
import { RULES } from './rules.js'
import { IGNORE_RULE } from './suppression.js'

/** The output streams of the command. */
export interface Output {
  out (text: string): void
  err (text: string): void
  /** Whether standard output shows colours. */
  readonly colours: boolean
}

const OPTIONS = {
  json: { type: 'boolean' },
  'fail-on': { type: 'string' },
  help: { type: 'boolean', short: 'h' }
} as const

const USAGE = 'usage: marty-security-audit [DIR] [--json] [--fail-on critical|high|medium|low]'

/** Runs `marty-security-audit` with these arguments and returns its exit code. Never throws. */
export function runCommandLine (args: readonly string[], output: Output): 0 | 1 | 2 | 3 {
  try {
    const { directory, json, failOn, help } = parse(args)
    if (help) {
      output.out(helpText())
      return 0
    }
    const report = audit(directory)
    output.out(json ? `${JSON.stringify(report, null, 2)}\n` : printReport(report, output.colours))
    return report.findings.some(({ severity }) => SEVERITIES.indexOf(severity) <= SEVERITIES.indexOf(failOn)) ? 1 : 0
  } catch (error) {
    if (error instanceof UsageError || error instanceof AuditError) {
      output.err(`marty-security-audit: ${error.message}\n`)
      return 2
    }
    output.err(`marty-security-audit: ${error instanceof Error ? error.stack ?? error.message : String(error)}\n`)
    return 3
  }
}

/** The command line is wrong. Reported without a stack trace. */
class UsageError extends Error {}

function parse (args: readonly string[]): { directory: string, json: boolean, failOn: Severity, help: boolean } {
  let parsed
  try {
    parsed = parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true, strict: true })
  } catch (error) {
    throw new UsageError(`${mistakeOf(error as Error, args)}\n${USAGE}`)
  }
  const { positionals: [directory = '.', ...more], values } = parsed
  if (more.length > 0) throw new UsageError(`only one folder can be audited; "${more[0]}" is not expected\n${USAGE}`)
  const failOn = values['fail-on'] ?? 'high'
  if (!isSeverity(failOn)) {
    const near = closest(failOn, SEVERITIES)
    throw new UsageError(
      `--fail-on must be one of ${SEVERITIES.join(', ')}, not ` +
        `"${failOn}"${near === null ? '' : `; did you mean "${near}"?`}\n${USAGE}`
    )
  }
  return { directory, json: values.json ?? false, failOn, help: values.help ?? false }
}

function isSeverity (word: string): word is Severity {
  return (SEVERITIES as readonly string[]).includes(word)
}

function mistakeOf (error: Error & { readonly code?: unknown }, args: readonly string[]): string {
  if (error.code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') return error.message.split('\n')[0]!
  const known = Object.keys(OPTIONS)
  const names = args.filter(word => word.startsWith('-')).map(word => word.replace(/^-+/, '').split('=')[0]!)
  const unknown = names.find(name => !known.includes(name) && name !== 'h') ?? ''
  const near = closest(unknown, known)
  return `there is no option "--${unknown}"` + (near === null ? '' : `; did you mean "--${near}"?`)
}

function helpText (): string {
  const rules = [...RULES, IGNORE_RULE]
  const width = Math.max(...rules.map(({ name }) => name.length))
  return `Finds mistakes that endanger a project, in the files that git tracks.

${USAGE}

  DIR         The folder to audit. Default: the current folder
  --json      Write the report as JSON
  --fail-on   The lowest severity that makes the exit code 1. Default: high
  --help      Print this help

Rules:
${rules.map(({ name, severity, summary }) => `  ${name.padEnd(width)}  ${severity.padEnd(8)}  ${summary}\n`).join('')}
A comment on the same line or the line before suppresses a finding: marty-security-audit-ignore RULE -- reason

Exit codes: 0 no finding at or above --fail-on, 1 findings, 2 wrong command line or nothing to audit, 3 any other error.
`
}

import {
  SEVERITIES, type Finding, type NotRun, type Place, type Rule, type SkippedFile, type SuppressedFinding
} from './finding.js'
import { openProject } from './project.js'
import { RULES } from './rules.js'
import { IGNORE_RULE, readSuppressions } from './suppression.js'

/** The findings of an audit, and what could not be checked. */
export interface AuditReport {
  /** Version of this format. */
  readonly version: 1
  /** Absolute path of the audited folder. */
  readonly directory: string
  /** Number of files that were read. */
  readonly files: number
  /** Sorted by severity, worst first, then by file and position. */
  readonly findings: readonly Finding[]
  readonly suppressed: readonly SuppressedFinding[]
  readonly skipped: readonly SkippedFile[]
  readonly notRun: readonly NotRun[]
}

/**
 * Audits the files below a folder that git tracks; outside git, all files except those in `node_modules`, `dist` and
 * `.git`. Changes nothing. Throws `AuditError` when the folder cannot be read or contains no file to audit.
 */
export function audit (directory: string): AuditReport {
  const project = openProject(directory)
  const texts = new Map(project.sources.map(source => [source.file, source.text]))
  const notRun: NotRun[] = []
  const found: Finding[] = []
  const add = (
    rule: Pick<Rule, 'name' | 'severity'>,
    { file, index, message, advice, severity = rule.severity }: Place
  ): void => {
    found.push({ rule: rule.name, severity, file, ...position(texts.get(file) ?? '', index), message, advice })
  }
  for (const rule of RULES) {
    const places = rule.find(project, (reason, file) => {
      notRun.push({ rule: rule.name, ...(file === undefined ? {} : { file }), reason })
    })
    for (const place of places) add(rule, place)
  }
  const { suppressions, mistakes } = readSuppressions(project.sources, RULES.map(({ name }) => name))
  for (const mistake of mistakes) add(IGNORE_RULE, mistake)

  const findings: Finding[] = []
  const suppressed: SuppressedFinding[] = []
  for (const finding of found.sort(worstFirst)) {
    const reason = suppressions.get(`${finding.file}\n${finding.line}\n${finding.rule}`)
    if (reason === undefined) findings.push(finding)
    else suppressed.push({ ...finding, reason })
  }
  return {
    version: 1,
    directory: project.directory,
    files: project.sources.length,
    findings,
    suppressed,
    skipped: project.skipped,
    notRun
  }
}

function position (text: string, index: number): { line: number, column: number } {
  const before = text.slice(0, index)
  const lineStart = before.lastIndexOf('\n') + 1
  return { line: before.split('\n').length, column: index - lineStart + 1 }
}

function worstFirst (a: Finding, b: Finding): number {
  return SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) ||
    Number(a.file > b.file) - Number(a.file < b.file) || a.line - b.line || a.column - b.column
}

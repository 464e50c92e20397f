import type { AuditReport } from './audit.js'
import type { Severity } from './finding.js'

const COLOURS: Readonly<Record<Severity, string>> = {
  critical: '\u001b[1;31m',
  high: '\u001b[31m',
  medium: '\u001b[33m',
  low: '\u001b[36m'
}

/** Prints the report for people: each finding with its advice below it, then what was not checked. */
export function printReport ({ files, findings, suppressed, skipped, notRun }: AuditReport, colours: boolean): string {
  const places = findings.map(({ file, line, column }) => `${file}:${line}:${column}`)
  const placeWidth = Math.max(0, ...places.map(place => place.length))
  const ruleWidth = Math.max(0, ...findings.map(({ rule }) => rule.length))
  const lines: string[] = []
  findings.forEach(({ severity, rule, message, advice }, index) => {
    const word = severity.padEnd(8)
    lines.push(
      `${colours ? `${COLOURS[severity]}${word}\u001b[0m` : word}  ${rule.padEnd(ruleWidth)}  ` +
        `${visible(places[index]!).padEnd(placeWidth)}  ${visible(message)}`
    )
    lines.push(`${' '.repeat(10 + ruleWidth + 2)}${visible(advice)}`)
  })
  if (findings.length > 0) lines.push('')
  for (const { rule, file, reason } of notRun) {
    lines.push(`not run   ${rule}${file === undefined ? '' : ` for ${visible(file)}`}: ${visible(reason)}`)
  }
  for (const [reason, names] of groupByReason(skipped)) {
    lines.push(
      `skipped   ${reason}: ` +
        `${names.slice(0, 5).map(visible).join(', ')}${names.length > 5 ? ` and ${names.length - 5} more` : ''}`
    )
  }
  lines.push(
    `${count(findings.length, 'finding')} in ${count(files, 'file')}; ${suppressed.length} suppressed, ` +
      `${skipped.length} skipped, ${count(notRun.length, 'check')} not run`
  )
  return `${lines.join('\n')}\n`
}

function groupByReason (skipped: AuditReport['skipped']): ReadonlyMap<string, readonly string[]> {
  const groups = new Map<string, string[]>()
  for (const { file, reason } of skipped) groups.set(reason, [...groups.get(reason) ?? [], file])
  return groups
}

function count (number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`
}

/** Escapes characters that control the terminal: file names may contain them. */
function visible (text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, char => `\\u{${char.codePointAt(0)!.toString(16)}}`)
}

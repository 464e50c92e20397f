import { closest } from './closest.js'
import type { Place, Rule, SourceFile } from './finding.js'

/** Findings about suppression comments themselves. They cannot be suppressed. */
export const IGNORE_RULE: Pick<Rule, 'name' | 'severity' | 'summary'> = {
  name: 'ignore-comment',
  severity: 'medium',
  summary: 'a suppression comment without a reason or for an unknown rule'
}

/**
 * The reasons of suppressions, by file, line and rule (joined by newlines). A comment applies to its own line and the
 * next one.
 */
export function readSuppressions (
  sources: readonly SourceFile[],
  rules: readonly string[]
): { suppressions: ReadonlyMap<string, string>, mistakes: readonly Place[] } {
  const suppressions = new Map<string, string>()
  const mistakes: Place[] = []
  for (const source of sources) {
    for (const { index, rule, reason } of commentsOf(source)) {
      const mistake = mistakeOf(rule, reason, rules)
      if (mistake !== null) {
        mistakes.push({ file: source.file, index, ...mistake })
        continue
      }
      const line = source.text.slice(0, index).split('\n').length
      for (const covered of [line, line + 1]) suppressions.set(`${source.file}\n${covered}\n${rule}`, reason)
    }
  }
  return { suppressions, mistakes }
}

/** How a comment begins in a language. In every other language, any known beginning counts. */
const OPENINGS: Partial<Record<SourceFile['language'], string>> = {
  markdown: '<!--',
  javascript: '(?://+|/?\\*+)'
}

function commentsOf ({
  file, text, uncommented, language
}: SourceFile): { index: number, rule: string, reason: string }[] {
  // JSON has no comments.
  if (file.endsWith('.json')) return []
  const opening = OPENINGS[language] ?? '(?:#+|//+|/\\*+|<!--|;+)'
  const pattern = new RegExp(`${opening}[ \\t]*(marty-security-audit-ignore)\\b([^\\n]*)`, 'g')
  return [...text.matchAll(pattern)].flatMap(match => {
    const index = match.index + match[0].indexOf(match[1]!)
    // Text in a string is not a comment.
    if (language === 'javascript' && uncommented[index] !== ' ') return []
    const [, rule = '', reason = ''] =
      /^[ \t]*([^\s]*)(?:[ \t]+--[ \t]+(.*))?/.exec(match[2]!.replace(/(?:\*\/|-->).*$/, '')) ?? []
    return [{ index, rule: rule === '--' ? '' : rule, reason: reason.trim() }]
  })
}

function mistakeOf (rule: string, reason: string, rules: readonly string[]): Pick<Place, 'message' | 'advice'> | null {
  if (!rules.includes(rule)) {
    const near = closest(rule, rules)
    return {
      message: rule === '' ? 'a suppression that names no rule' : 'a suppression of a rule that does not exist',
      advice: near === null ? 'Name one of the rules that --help lists.' : `Did you mean "${near}"?`
    }
  }
  return reason === ''
    ? {
        message: `a suppression of "${rule}" without a reason; it has no effect`,
        advice: 'Write " -- " and the reason after the rule, or remove the comment.'
      }
    : null
}

/** One mistake and its position in the source. */
export interface SourceProblem {
  /** The file, or `environment NAME`. */
  readonly source: string
  /** 1-based; 0 when the source has no lines. */
  readonly line: number
  /** 1-based; 0 when the source has no lines. */
  readonly column: number
  readonly message: string
}

/** `file:line:column: message`, or `environment NAME: message`. */
export function formatProblem ({ source, line, column, message }: SourceProblem): string {
  return line === 0 ? `${source}: ${message}` : `${source}:${line}:${column}: ${message}`
}

/** Sorts problems in reading order: those in files by position, then those without a position. */
export function sortProblems<Problem extends SourceProblem> (problems: readonly Problem[]): Problem[] {
  return [...problems].sort((a, b) => Number(a.line === 0) - Number(b.line === 0) ||
    a.source.localeCompare(b.source) || a.line - b.line || a.column - b.column)
}

/** How much harm a finding can do, worst first. */
export type Severity = 'critical' | 'high' | 'medium' | 'low'

/** Every severity, worst first. */
export const SEVERITIES: readonly Severity[] = ['critical', 'high', 'medium', 'low']

/** Something in a file that should not be there, or is missing. */
export interface Finding {
  /** The rule's name, as a suppression comment gives it. */
  readonly rule: string
  readonly severity: Severity
  /** Relative to the audited folder, with forward slashes. */
  readonly file: string
  /** From 1. */
  readonly line: number
  /** From 1, in UTF-16 code units. */
  readonly column: number
  /** What it is. Never contains a secret that was found. */
  readonly message: string
  /** What to do about it. */
  readonly advice: string
}

/** A finding that a comment with a reason has set aside. */
export interface SuppressedFinding extends Finding {
  readonly reason: string
}

/** A check that could not be made. Says nothing about what it would have found. */
export interface NotRun {
  readonly rule: string
  /** The one file it could not be made for; absent when it could not be made at all. */
  readonly file?: string
  readonly reason: string
}

/** A file whose content was not read. Its name was still checked. */
export interface SkippedFile {
  readonly file: string
  readonly reason: string
}

/** Where a rule found something, before the rule's own name and severity are added. */
export interface Place {
  readonly file: string
  /** Offset into the file's text. */
  readonly index: number
  readonly message: string
  readonly advice: string
  /** When one place is worse than the rule's usual. */
  readonly severity?: Severity
}

/** One check. */
export interface Rule {
  readonly name: string
  readonly severity: Severity
  /** One line, for --help. */
  readonly summary: string
  readonly find: (project: Project, notRun: (reason: string, file?: string) => void) => readonly Place[]
}

/** A file that was read. */
export interface SourceFile {
  readonly file: string
  readonly text: string
  /** The text with comments blanked; the same length. */
  readonly uncommented: string
  /** The text with comments, strings and regular expressions blanked; the same length. Equals `uncommented` outside JavaScript and TypeScript. */
  readonly code: string
  readonly language: 'javascript' | 'markdown' | 'other'
}

/** What the rules look at. */
export interface Project {
  /** Absolute, without symbolic links. */
  readonly directory: string
  /** The top of the git working tree, or the directory itself. */
  readonly top: string
  readonly tracked: { readonly known: true } | { readonly known: false, readonly reason: string }
  /** Names of all files below the directory, read or not. */
  readonly names: readonly string[]
  /** Absolute names of all files below `top`. */
  readonly everywhere: ReadonlySet<string>
  readonly sources: readonly SourceFile[]
  readonly skipped: readonly SkippedFile[]
}

/** How much harm a finding can do. */
export type Severity = 'critical' | 'high' | 'medium' | 'low'

/** Every severity, worst first. */
export const SEVERITIES: readonly Severity[] = ['critical', 'high', 'medium', 'low']

/** A problem in a file: something that must not be there, or something that is missing. */
export interface Finding {
  /** The name of the rule, as suppression comments use it. */
  readonly rule: string
  readonly severity: Severity
  /** Relative to the audited folder, with forward slashes. */
  readonly file: string
  /** Line number, from 1. */
  readonly line: number
  /** Column, from 1, in UTF-16 code units. */
  readonly column: number
  /** What is wrong. Never contains a secret that was found. */
  readonly message: string
  /** What to do about it. */
  readonly advice: string
}

/** A finding that a comment in the file suppresses, with a reason. */
export interface SuppressedFinding extends Finding {
  readonly reason: string
}

/** A check that could not be made, so it is unknown whether it would have found anything. */
export interface NotRun {
  readonly rule: string
  /** The only file for which the check could not be made; absent when it could not be made at all. */
  readonly file?: string
  readonly reason: string
}

/** A file whose content was not read. Its name was still checked. */
export interface SkippedFile {
  readonly file: string
  readonly reason: string
}

/** The place of a finding, before the name and severity of its rule are added. */
export interface Place {
  readonly file: string
  /** Offset in the text of the file. */
  readonly index: number
  readonly message: string
  readonly advice: string
  /** The severity of this finding, if it differs from that of its rule. */
  readonly severity?: Severity
}

/** One check. */
export interface Rule {
  readonly name: string
  readonly severity: Severity
  /** One line for `--help`. */
  readonly summary: string
  readonly find: (project: Project, notRun: (reason: string, file?: string) => void) => readonly Place[]
}

/** A file that was read. */
export interface SourceFile {
  readonly file: string
  readonly text: string
  /** The text with comments replaced by spaces, so that offsets stay the same. */
  readonly uncommented: string
  /**
   * Like `uncommented`, with strings and regular expressions replaced too. The same as `uncommented` in languages
   * other than JavaScript and TypeScript.
   */
  readonly code: string
  readonly language: 'javascript' | 'markdown' | 'other'
}

/** The files that the rules check. */
export interface Project {
  /** Absolute path, with symbolic links resolved. */
  readonly directory: string
  /** The root of the git working tree; outside git, the directory itself. */
  readonly top: string
  readonly tracked: { readonly known: true } | { readonly known: false, readonly reason: string }
  /** Names of all files below the directory, read or not. */
  readonly names: readonly string[]
  /** Absolute names of all files below `top`. */
  readonly everywhere: ReadonlySet<string>
  readonly sources: readonly SourceFile[]
  readonly skipped: readonly SkippedFile[]
}

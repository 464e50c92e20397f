import { YAMLException } from 'js-yaml'
import type { Document, LineCounter, Node, YAMLParseError } from 'yaml'
import { yamlLibrary } from './lazy-libraries.js'
import { nameCharacter } from './strange-character.js'
import type { SourcePosition } from './yaml-source.js'

/** One mistake in a YAML document: its position and a message. */
export interface YamlMistake {
  readonly at: SourcePosition
  readonly message: string
}

interface Parsed {
  readonly document: Document
  readonly lines: LineCounter
}

/** In longer documents only the first mistake is reported, because the parser that keeps positions is slow for them. */
const MAX_CHARACTERS = 500_000

/** Characters that YAML 1.2 forbids (section 5.1), except for a byte order mark at the beginning. */
const FORBIDDEN = /[^\t\n\r\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]/u

/**
 * Explains why a string is not a valid YAML document. Errors after the first syntax error are usually caused by it, so
 * they are not reported. Independent mistakes (duplicate keys, aliases, tags) are all reported.
 */
export function explainYaml (text: string, error: unknown, parse: () => Parsed): readonly YamlMistake[] {
  const forbidden = FORBIDDEN.exec(text)
  if (forbidden !== null) {
    return [
      {
        at: positionIn(text, forbidden.index),
        message: `YAML does not allow ${nameCharacter(forbidden[0])} here; remove it`
      }
    ]
  }
  const reason = error instanceof YAMLException ? error.reason : 'cannot be read as YAML'
  const mark = error instanceof YAMLException ? error.mark : undefined
  const first = { at: { line: (mark?.line ?? 0) + 1, column: (mark?.column ?? 0) + 1 }, message: reason }
  // The other parser does not limit the depth: it would overflow the stack.
  const depth = /maxDepth \((\d+)\)/.exec(reason)
  if (depth !== null) return [{ ...first, message: `nested more than ${depth[1]} levels deep` }]
  if (text.length > MAX_CHARACTERS) return [first]
  let parsed: Parsed
  try {
    parsed = parse()
  } catch {
    return [first]
  }
  const found = mistakesOf(text, parsed)
  return found.length === 0 ? [first] : found
}

const WORDS: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'this key is written twice in the same mapping',
  TAB_AS_INDENT: 'a tab is used for indentation; use spaces',
  MULTIPLE_DOCS: 'a second document begins here; a file must contain only one',
  TAG_RESOLVE_FAILED: 'this tag is not supported'
}
const INDEPENDENT: ReadonlySet<string> = new Set(['DUPLICATE_KEY', 'TAG_RESOLVE_FAILED'])

function mistakesOf (text: string, { document, lines }: Parsed): YamlMistake[] {
  const errors = [...document.errors, ...document.warnings].sort((a, b) => a.pos[0] - b.pos[0])
  const syntax = errors.find(({ code }) => !INDEPENDENT.has(code))
  const end = syntax === undefined ? Infinity : syntax.pos[0]
  const found = new Map<number, YamlMistake>()
  const add = (offset: number, message: string): void => {
    const at = place(lines, offset)
    // Further mistakes on the same line are usually caused by the first.
    if (!found.has(at.line)) found.set(at.line, { at, message })
  }
  if (syntax === undefined || document.errors.every(({ code }) => INDEPENDENT.has(code) || code === 'MULTIPLE_DOCS')) {
    for (const { code, pos } of errors) if (INDEPENDENT.has(code)) add(pos[0], WORDS[code]!)
    yamlLibrary().visit(document, {
      Alias: (_, node) => {
        add(node.range?.[0] ?? 0, `the alias *${node.source} is not supported; write the value out`)
      }
    })
  }
  if (syntax !== undefined) {
    const cause = causeOf(syntax, document, lines, text)
    if (![...found.values()].some(({ at }) => at.line < place(lines, Math.min(cause.offset, end)).line)) {
      add(cause.offset, cause.message)
    }
  }
  return [...found.values()].sort((a, b) => a.at.line - b.at.line)
}

/** The position of the actual syntax error, which is often before the position that the parser reports. */
function causeOf (
  error: YAMLParseError | Document['warnings'][number],
  document: Document,
  lines: LineCounter,
  text: string
): { readonly offset: number, readonly message: string } {
  const offset = error.pos[0]
  const message = WORDS[error.code] ?? lowerFirst(error.message)
  const root = document.contents as Node | null
  const start = root?.range?.[0] ?? 0
  const line = (at: number): number => place(lines, at).line

  if (error.code === 'UNEXPECTED_TOKEN' && root !== null && start < offset && line(start) < line(offset)) {
    if (!yamlLibrary().isCollection(root)) {
      return {
        offset: start,
        message: 'this is not a key followed by a colon; a comment begins with #'
      }
    }
    if (yamlLibrary().isSeq(root)) {
      return { offset: start, message: `a list begins here, but line ${line(offset)} is not an item of it` }
    }
    if (place(lines, start).column > 1) {
      return {
        offset: start,
        message: `the first key is indented by spaces, but line ${line(offset)} is not: remove the spaces`
      }
    }
  }
  const quoted = openQuoteBefore(document, offset, error.code === 'MISSING_CHAR' ? null : line(offset), line)
  if (quoted !== null) {
    return { offset: quoted, message: `the quote that opens here is not closed in the same line: ${message}` }
  }
  if (error.code === 'BAD_INDENT' && /^Flow /.test(error.message)) {
    const open = lastOpenCollection(document, offset)
    if (open !== null && line(open) < line(offset)) {
      return { offset: open, message: `the ${text[open]} that opens here is not closed` }
    }
  }
  if (error.code === 'BAD_INDENT' || error.code === 'BLOCK_AS_IMPLICIT_KEY') {
    const sibling = mappingBefore(document, offset)
    if (sibling !== null && line(sibling) < line(offset)) {
      return {
        offset,
        message: `${message}; this mapping begins in line ${line(sibling)}, column ${place(lines, sibling).column}`
      }
    }
  }
  return { offset, message }
}

/** The first quoted string before an offset that spans several lines and, unless `endLine` is null, ends there. */
function openQuoteBefore (
  document: Document,
  before: number,
  endLine: number | null,
  line: (offset: number) => number
): number | null {
  let found: number | null = null
  yamlLibrary().visit(document, {
    Scalar (_, node) {
      if (node.type !== 'QUOTE_DOUBLE' && node.type !== 'QUOTE_SINGLE') return undefined
      const [start, end] = node.range ?? [0, 0]
      if (start > before || line(start) === line(end - 1) || (endLine !== null && line(end - 1) !== endLine)) {
        return undefined
      }
      found = start
      return yamlLibrary().visit.BREAK
    }
  })
  return found
}

function lastOpenCollection (document: Document, before: number): number | null {
  let found: number | null = null
  yamlLibrary().visit(document, {
    Collection: (_, node) => {
      if (node.flow === true && node.range !== null && node.range !== undefined && node.range[0] < before) {
        found = node.range[0]
      }
    }
  })
  return found
}

/** The start of the innermost mapping that contains an offset. */
function mappingBefore (document: Document, offset: number): number | null {
  let found: number | null = null
  yamlLibrary().visit(document, {
    Map: (_, node) => {
      const range = node.range
      if (node.flow === true || range === null || range === undefined || range[0] > offset || range[2] < offset) return
      if (node.items.some(({ key }) => yamlLibrary().isScalar(key) && key.range?.[0] === offset)) found = range[0]
      else found ??= range[0]
    }
  })
  return found
}

function lowerFirst (message: string): string {
  return message.charAt(0).toLowerCase() + message.slice(1)
}

export function place (lines: LineCounter, offset: number): SourcePosition {
  const { line, col } = lines.linePos(offset)
  return { line: Math.max(1, line), column: Math.max(1, col) }
}

function positionIn (text: string, offset: number): SourcePosition {
  const before = text.slice(0, offset).split(/\r\n|\r|\n/)
  return { line: before.length, column: before.at(-1)!.length + 1 }
}

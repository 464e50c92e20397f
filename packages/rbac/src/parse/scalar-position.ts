import type { SourcePosition } from '@marty/config'

/**
 * The position in the file of a character in the value of a YAML scalar. White space is skipped on both
 * sides, because YAML folds it, and so are the escapes of quoted scalars.
 *
 * @param start where the scalar begins, with its quote or its block indicator
 */
export function positionInScalar (text: string, start: SourcePosition, value: string, offset: number): SourcePosition {
  let at = lineStart(text, start.line) + start.column - 1
  const style = text[at]!
  if (style === '"' || style === "'") at++
  else if (style === '|' || style === '>') at = text.indexOf('\n', at) + 1
  // In double quotes, a \ at the end of a line escapes the line break.
  const isHidden = (): boolean => style === '"' && text[at] === '\\' && isSpace(text[at + 1])
  const skipSpace = (): void => { while (isSpace(text[at]) || isHidden()) at++ }
  for (let i = 0; i < offset; i++) {
    if (isSpace(value[i])) continue
    skipSpace()
    if ((style === '"' && text[at] === '\\') || (style === "'" && text[at] === "'")) at++
    at++
  }
  if (offset < value.length && !isSpace(value[offset])) skipSpace()
  const before = text.slice(0, at)
  return { line: before.split('\n').length, column: at - before.lastIndexOf('\n') }
}

function lineStart (text: string, line: number): number {
  let start = 0
  for (let passed = 1; passed < line; passed++) start = text.indexOf('\n', start) + 1
  return start
}

function isSpace (character: string | undefined): boolean {
  return character === ' ' || character === '\t' || character === '\r' || character === '\n'
}

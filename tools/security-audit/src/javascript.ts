/**
 * Replaces what is not code in JavaScript or TypeScript by spaces, so that offsets stay the same: comments in
 * `uncommented`; in `code` also the content of strings, templates (except their `${}` expressions) and regular
 * expressions.
 *
 * It reads tokens and does not parse the grammar: the token before a slash decides whether it is a division or opens a
 * regular expression. Text between JSX tags counts as code.
 */
export function blankComments (text: string): { uncommented: string, code: string } {
  const uncommented = [...blankable(text)]
  const code = [...uncommented]
  const templates: number[] = []
  let depth = 0
  let index = 0
  const blank = (target: string[], from: number, to: number): void => {
    for (let i = from; i < to; i++) if (target[i] !== '\n') target[i] = ' '
  }
  const template = (from: number): number => {
    const { end, expression } = endOfTemplate(text, from)
    blank(code, from, expression ? end - 2 : end - 1)
    if (expression) templates.push(depth)
    return end
  }
  while (index < text.length) {
    const char = text[index]!
    const two = text.slice(index, index + 2)
    if (two === '//' || (index === 0 && two === '#!')) {
      const end = endOr(text, text.indexOf('\n', index))
      blank(uncommented, index, end)
      blank(code, index, end)
      index = end
    } else if (two === '/*') {
      const close = text.indexOf('*/', index + 2)
      const end = close === -1 ? text.length : close + 2
      blank(uncommented, index, end)
      blank(code, index, end)
      index = end
    } else if (char === '"' || char === "'") {
      const end = endOfString(text, index)
      blank(code, index + 1, end - 1)
      index = end
    } else if (char === '`') {
      index = template(index + 1)
    } else if (char === '/' && opensRegex(code, index)) {
      const end = endOfRegex(text, index)
      blank(code, index + 1, end - 1)
      index = end
    } else if (char === '{') {
      depth++
      index++
    } else if (char === '}') {
      index++
      if (templates.at(-1) === depth) {
        templates.pop()
        index = template(index)
      } else depth--
    } else index++
  }
  return { uncommented: uncommented.join(''), code: code.join('') }
}

/** One element for each UTF-16 code unit, so that offsets into the text are offsets into the array. */
function blankable (text: string): string[] {
  return text.split('')
}

function endOr (text: string, found: number): number {
  return found === -1 ? text.length : found
}

function endOfString (text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === '\\') i++
    else if (text[i] === text[start] || text[i] === '\n') return i + 1
  }
  return text.length
}

function endOfTemplate (text: string, from: number): { end: number, expression: boolean } {
  for (let i = from; i < text.length; i++) {
    if (text[i] === '\\') i++
    else if (text[i] === '`') return { end: i + 1, expression: false }
    else if (text[i] === '$' && text[i + 1] === '{') return { end: i + 2, expression: true }
  }
  return { end: text.length + 1, expression: false }
}

function opensRegex (code: readonly string[], slash: number): boolean {
  let i = slash - 1
  while (i >= 0 && /\s/.test(code[i]!)) i--
  if (i < 0 || /[([{,;:=!&|?+\-*%^~<>]/.test(code[i]!)) return true
  if (!/[a-z]/.test(code[i]!)) return false
  const word = /(?<![\w$.])[a-z]+$/.exec(code.slice(Math.max(0, i - 12), i + 1).join(''))?.[0]
  return (
    word !== undefined &&
    [
      'return', 'typeof', 'case', 'in', 'of', 'do', 'else', 'void', 'delete', 'throw', 'await', 'yield', 'instanceof',
      'new'
    ].includes(word)
  )
}

function endOfRegex (text: string, start: number): number {
  let inClass = false
  for (let i = start + 1; i < text.length; i++) {
    if (text[i] === '\n') return start + 1
    if (text[i] === '\\') i++
    else if (text[i] === '[') inClass = true
    else if (text[i] === ']') inClass = false
    else if (text[i] === '/' && !inClass) return i + 1
  }
  return start + 1
}

import { nameCharacter } from '@marty/config'

/** A literal value in a condition. */
export type Scalar = string | number | boolean

export type Operand =
  | { readonly kind: 'literal', readonly value: Scalar | readonly Scalar[], readonly offset: number }
  | { readonly kind: 'attribute', readonly name: string, readonly path: readonly string[], readonly offset: number }

export type Comparator = '==' | '!=' | '<' | '<=' | '>' | '>=' | 'in'

export interface Comparison {
  readonly kind: 'comparison'
  readonly comparator: Comparator
  readonly left: Operand
  readonly right: Operand
  readonly offset: number
}

export type Expression = Comparison |
  { readonly kind: 'and' | 'or', readonly left: Expression, readonly right: Expression } |
  { readonly kind: 'not', readonly operand: Expression }

/** A mistake in a condition, and the character offset at which it is. */
export class ConditionMistake extends Error {
  readonly offset: number
  constructor (offset: number, message: string) {
    super(message)
    this.offset = offset
  }
}

/** The maximum nesting depth. Deeper conditions could exhaust the stack, and no one could read them. */
const MAX_DEPTH = 20

/** Operator precedence; a comparison binds tighter than either of these. */
const BINDING: Readonly<Record<string, number>> = Object.freeze({ or: 1, and: 2 })
const BINDING_OF_NOT = 3

/**
 * Parses the text of a condition (precedence climbing after Pratt). Throws {@link ConditionMistake}.
 *
 *     condition  = condition ("or" | "and") condition | "not" condition | "(" condition ")" | comparison
 *     comparison = operand ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") operand
 *     operand    = attribute | text | number | "true" | "false" | "[" literal {"," literal} "]"
 */
export function parseCondition (text: string): Expression {
  const tokens = tokenize(text)
  let next = 0
  let depth = 0

  const take = (): Token => tokens[next++]!
  const isNext = (text: string): boolean => tokens[next]!.kind !== 'text' && tokens[next]!.text === text
  const expect = (text: string): void => {
    const token = take()
    if (token.kind === 'text' || token.text !== text) {
      throw new ConditionMistake(token.offset, `expected ${text}, found ${describe(token)}`)
    }
  }

  const expression = (power: number): Expression => {
    if (++depth > MAX_DEPTH) {
      throw new ConditionMistake(tokens[next]!.offset, `nested more than ${MAX_DEPTH} levels deep`)
    }
    let left = prefix()
    for (;;) {
      const token = tokens[next]!
      const binding = token.kind === 'word' && Object.hasOwn(BINDING, token.text) ? BINDING[token.text]! : 0
      if (binding <= power) break
      next++
      left = { kind: token.text as 'and' | 'or', left, right: expression(binding) }
    }
    depth--
    return left
  }

  const prefix = (): Expression => {
    if (isNext('not')) {
      next++
      return { kind: 'not', operand: expression(BINDING_OF_NOT) }
    }
    if (!isNext('(')) return comparison()
    next++
    const inner = expression(0)
    expect(')')
    return inner
  }

  const comparison = (): Expression => {
    const left = operand()
    const token = take()
    if (!isComparator(token)) {
      throw new ConditionMistake(token.offset, `expected one of ${COMPARATORS.join(' ')}, found ${describe(token)}`)
    }
    const right = operand()
    if (isComparator(tokens[next]!)) {
      throw new ConditionMistake(tokens[next]!.offset, 'comparisons cannot be chained; join them with and')
    }
    return { kind: 'comparison', comparator: token.text as Comparator, left, right, offset: token.offset }
  }

  const operand = (): Operand => {
    const { offset } = tokens[next]!
    if (isNext('[')) {
      next++
      const items = [literal()]
      while (isNext(',')) {
        next++
        items.push(literal())
      }
      expect(']')
      return { kind: 'literal', value: Object.freeze(items), offset }
    }
    const token = tokens[next]!
    if (token.kind === 'word' && !KEYWORDS.has(token.text)) {
      next++
      return { kind: 'attribute', name: token.text, path: token.text.split('.'), offset }
    }
    return { kind: 'literal', value: literal(), offset }
  }

  const literal = (): Scalar => {
    const token = take()
    if (token.kind === 'text') return token.text
    if (token.kind === 'number') return Number(token.text)
    if (token.text === 'true' || token.text === 'false') return token.text === 'true'
    throw new ConditionMistake(
      token.offset,
      `expected a value, found ${describe(token)}` +
        (token.kind === 'word' && !KEYWORDS.has(token.text) ? '; put a string in quotes' : '')
    )
  }

  const parsed = expression(0)
  const rest = take()
  if (rest.kind !== 'end') {
    throw new ConditionMistake(rest.offset, `expected and, or, or the end, found ${describe(rest)}${hint(rest.text)}`)
  }
  return parsed
}

interface Token {
  readonly kind: 'text' | 'number' | 'word' | 'sign' | 'end'
  readonly text: string
  readonly offset: number
}

const COMPARATORS: readonly string[] = ['==', '!=', '<', '<=', '>', '>=', 'in']
const KEYWORDS: ReadonlySet<string> = new Set(['and', 'or', 'not', 'in', 'true', 'false'])
const UNCLOSED = '; the string is not closed, or has a \\ before a character that is neither \\ nor its quote'
const HINTS: Readonly<Record<string, string>> = Object.freeze({
  '=': '; write == to compare',
  '&': '; write and',
  '|': '; write or',
  '!': '; write not',
  AND: '; write and',
  OR: '; write or',
  '"': UNCLOSED,
  "'": UNCLOSED
})

const SPACE = /[ \t\r\n]+/
const TEXT = /"(?:[^"\\]|\\["\\])*"|'(?:[^'\\]|\\['\\])*'/
const NUMBER = /-?\d+(?:\.\d+)?(?![\w.])/
const WORD = /[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*/
const SIGN = /==|!=|<=|>=|[<>()[\],]/
// Each alternative begins with a different character, so the regular expression never backtracks.
const TOKEN = new RegExp(`${SPACE.source}|(${TEXT.source})|(${NUMBER.source})|(${WORD.source})|(${SIGN.source})`, 'y')

function tokenize (text: string): Token[] {
  const tokens: Token[] = []
  for (let offset = 0; offset < text.length;) {
    TOKEN.lastIndex = offset
    const match = TOKEN.exec(text)
    if (match === null) throw new ConditionMistake(offset, cannotRead(text, offset))
    const [all, quoted, number, word, sign] = match
    if (quoted !== undefined) tokens.push({ kind: 'text', text: quoted.slice(1, -1).replace(/\\(.)/g, '$1'), offset })
    else if (number !== undefined) tokens.push({ kind: 'number', text: number, offset })
    else if (word !== undefined) tokens.push({ kind: 'word', text: word, offset })
    else if (sign !== undefined) tokens.push({ kind: 'sign', text: sign, offset })
    offset += all.length
  }
  tokens.push({ kind: 'end', text: '', offset: text.length })
  return tokens
}

/**
 * The message for a condition that ends inside a string: YAML
 * cut it, because a # after a space begins a comment.
 */
function cannotRead (text: string, offset: number): string {
  const character = String.fromCodePoint(text.codePointAt(offset)!)
  const shown = /^[\x20-\x7E]$/.test(character) ? JSON.stringify(character) : nameCharacter(character)
  const isOpen = (character === '"' || character === "'") && !text.includes(character, offset + 1)
  return 'cannot read ' +
    `${shown}${hint(character)}${isOpen ? '; a condition with a # or a colon must be in quotes' : ''}`
}

function isComparator ({ kind, text }: Token): boolean {
  return (kind === 'sign' || kind === 'word') && COMPARATORS.includes(text)
}

function describe ({ kind, text }: Token): string {
  if (kind === 'end') return 'the end'
  return kind === 'text' ? `the string ${JSON.stringify(text)}` : text
}

function hint (text: string): string {
  return Object.hasOwn(HINTS, text) ? HINTS[text]! : ''
}

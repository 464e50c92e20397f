import { isUtf8 } from 'node:buffer'

export type JsonObject = Record<string, unknown>

/**
 * Parses one JSON object. Returns null for anything else: invalid UTF-8 or JSON, a byte order mark,
 * arrays and scalars, nesting deeper than `maxDepth`, a key that occurs twice in one object (parsers
 * disagree on which one counts), and keys that reach an object's prototype.
 */
export function parseStrictJson (bytes: Buffer, maxDepth: number): JsonObject | null {
  if (!isUtf8(bytes)) return null
  const text = bytes.toString()
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
  // The parser keeps only the last of two equal keys, so the text would have more members than the value.
  return membersOf(value, maxDepth) === membersWritten(text) ? value as JsonObject : null
}

/**
 * Counts the members of a value, nested ones included. Returns NaN, which equals nothing, when a key is
 * unsafe or the nesting is too deep.
 */
function membersOf (value: object, depth: number): number {
  if (depth === 0) return NaN
  let count = 0
  if (Array.isArray(value)) {
    for (const item of value as unknown[]) {
      if (typeof item === 'object' && item !== null) count += membersOf(item, depth - 1)
    }
    return count
  }
  for (const key of Object.keys(value)) {
    if (key === '__proto__' || key === 'constructor') return NaN
    const member = (value as JsonObject)[key]
    count++
    if (typeof member === 'object' && member !== null) count += membersOf(member, depth - 1)
  }
  return count
}

const QUOTE = 0x22
const COLON = 0x3a
const BACKSLASH = 0x5c

/** Counts the members in valid JSON text: each has one colon outside of strings. */
function membersWritten (text: string): number {
  let count = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === COLON) count++
    else if (code === QUOTE) i = endOfString(text, i + 1)
  }
  return count
}

function endOfString (text: string, start: number): number {
  let i = start
  while (text.charCodeAt(i) !== QUOTE) i += text.charCodeAt(i) === BACKSLASH ? 2 : 1
  return i
}

export type JsonObject = Record<string, unknown>

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Parses one JSON object. Null for anything else: invalid UTF-8 or JSON, arrays and scalars, nesting beyond
 * `maxDepth`, a key that occurs twice in one object (parsers disagree on which one counts), and keys that
 * reach an object's prototype.
 */
export function parseStrictJson (bytes: Uint8Array, maxDepth: number): JsonObject | null {
  let value: unknown
  let text: string
  try {
    text = utf8.decode(bytes)
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null
  return hasPlainKeys(text, maxDepth) ? value as JsonObject : null
}

/** Walks text that is known to be valid JSON. */
function hasPlainKeys (text: string, maxDepth: number): boolean {
  const open: Array<Set<string> | null> = []
  for (let i = 0; i < text.length; i++) {
    const character = text[i]
    if (character === '{' || character === '[') {
      if (open.push(character === '{' ? new Set() : null) > maxDepth) return false
    } else if (character === '}' || character === ']') {
      open.pop()
    } else if (character === '"') {
      const end = endOfString(text, i)
      const keys = open.at(-1)
      if (keys !== null && keys !== undefined && isKey(text, end)) {
        const key = JSON.parse(text.slice(i, end + 1)) as string
        if (keys.has(key) || key === '__proto__' || key === 'constructor') return false
        keys.add(key)
      }
      i = end
    }
  }
  return true
}

function endOfString (text: string, start: number): number {
  for (let i = start + 1; ; i++) {
    if (text[i] === '\\') i++
    else if (text[i] === '"') return i
  }
}

function isKey (text: string, end: number): boolean {
  let i = end + 1
  while (text[i] === ' ' || text[i] === '\t' || text[i] === '\n' || text[i] === '\r') i++
  return text[i] === ':'
}

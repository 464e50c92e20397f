/**
 * Whether a string looks random, like a secret: at least 12 characters, with letters and digits, at least 3.2 bits of
 * Shannon entropy per character, and neither words nor a reference nor a placeholder.
 */
export function looksRandom (value: string): boolean {
  if (value.length < 12 || /\s/.test(value)) return false
  if (!/[A-Za-z]/.test(value) || !/\d/.test(value)) return false
  if (isReference(value) || isPlaceholder(value) || isWords(value)) return false
  return entropyBits(value) >= 3.2
}

function isReference (value: string): boolean {
  return /\$\{|\$\(|\{\{|^\$|^<.*>$|^%.*%$|^[a-z][a-z0-9+.-]*:\/\/|^\.{0,2}\/|[()]/i.test(value)
}

function isPlaceholder (value: string): boolean {
  return /example|change[-_]?me|replace[-_]?me|placeholder|dummy|your[-_]|xxxx|\.\.\.|…|(?:0123|1234)5|abcdef/i.test(
    value
  )
}

/** Words and short numbers joined by punctuation: `jwt-secret-2`, `a.b.1`, `oauth2:access_token`. */
function isWords (value: string): boolean {
  return value
    .split(/[-_.:/,;|@+ ]/)
    .every(part => /^(?:[A-Za-z]?[a-z]*|[A-Z]*)\d{0,4}$/.test(part) && (part.match(/[a-z]+/i)?.[0].length ?? 0) <= 14)
}

/** Shannon entropy of the string's characters, in bits per character. */
function entropyBits (value: string): number {
  const counts = new Map<string, number>()
  for (const char of value) counts.set(char, (counts.get(char) ?? 0) + 1)
  return [...counts.values()].reduce((sum, count) => sum - count / value.length * Math.log2(count / value.length), 0)
}

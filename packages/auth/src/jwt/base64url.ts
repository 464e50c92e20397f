const ALPHABET = /^[A-Za-z0-9_-]*$/
/** By length modulo 4: the last characters that leave no spare bit set; after one character there is none. */
const LAST = ['', '', 'AQgw', 'AEIMQUYcgkosw048'] as const

/**
 * Decodes base64url as RFC 7515 section 2 writes it: no padding, no white space, no spare bits.
 * Null when any other text would decode to the same bytes, so that one token has one spelling.
 */
export function decodeBase64url (text: string): Buffer | null {
  const rest = text.length % 4
  if (rest !== 0 && !LAST[rest]!.includes(text[text.length - 1]!)) return null
  return ALPHABET.test(text) ? Buffer.from(text, 'base64url') : null
}

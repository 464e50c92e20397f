const ALPHABET = /^[A-Za-z0-9_-]*$/
/**
 * The valid last characters, by length modulo 4: those that set no unused bits. A length of 1 modulo 4
 * is never valid.
 */
const LAST = ['', '', 'AQgw', 'AEIMQUYcgkosw048'] as const

/**
 * Decodes base64url as RFC 7515 section 2 defines it: no padding, no white space, no unused bits set.
 * Returns null for any string that is not the canonical encoding of its bytes, so that each token has
 * exactly one spelling.
 */
export function decodeBase64url (text: string): Buffer | null {
  const rest = text.length % 4
  if (rest !== 0 && !LAST[rest]!.includes(text[text.length - 1]!)) return null
  return ALPHABET.test(text) ? Buffer.from(text, 'base64url') : null
}

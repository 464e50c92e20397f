const ALPHABET = /^[A-Za-z0-9_-]*$/

/**
 * Decodes base64url as RFC 7515 section 2 writes it: no padding, no white space, no spare bits.
 * Null when any other text would decode to the same bytes, so that one token has one spelling.
 */
export function decodeBase64url (text: string): Buffer | null {
  if (text.length % 4 === 1 || !ALPHABET.test(text)) return null
  const bytes = Buffer.from(text, 'base64url')
  return bytes.toString('base64url') === text ? bytes : null
}

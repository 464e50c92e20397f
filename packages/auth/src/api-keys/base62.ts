import { randomBytes } from 'node:crypto'

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** Returns a random string over `0-9A-Za-z`, every character equally likely. 43 characters hold 256 bits. */
export function randomBase62 (length: number): string {
  let text = ''
  while (text.length < length) {
    for (const byte of randomBytes(length - text.length + 8)) {
      // 248 = 4 x 62: higher bytes would make the first characters more likely.
      if (byte < 248 && text.length < length) text += ALPHABET[byte % 62]
    }
  }
  return text
}

/** Encodes an unsigned 32-bit number as exactly six characters. */
export function base62OfUint32 (value: number): string {
  let text = ''
  for (let rest = value >>> 0; text.length < 6; rest = Math.floor(rest / 62)) text = ALPHABET[rest % 62]! + text
  return text
}

import { MAX_EXAMINED_CHARS, redactText } from './redact.js'

const MAX_CHARS = 256

// Control characters, line separators, invisible and direction-changing characters, and unpaired surrogates. The
// expression has to contain the control characters that it matches.
const UNSAFE =
  // eslint-disable-next-line no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g

/** Makes a value safe to write and to display: redacts secrets, escapes deceptive characters, and limits the length. */
export function neutralize (value: string): string {
  const text = redactText(value)
    .slice(0, 2 * MAX_CHARS)
    .replace(UNSAFE, character => `\\u{${character.charCodeAt(0).toString(16)}}`)
  if (text.length <= MAX_CHARS && value.length <= MAX_EXAMINED_CHARS) return text
  // Do not cut a surrogate pair in half.
  return `${text.slice(0, MAX_CHARS).replace(/[\ud800-\udbff]$/, '')}...[${value.length} characters]`
}

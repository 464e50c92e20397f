/** Makes a value fit to be written down and read by people: no secrets, no tricks, bounded. */
export type Neutralize = (value: string) => string

export const REDACTED = '[redacted]'
const MAX_CHARS = 256
/** Looked at before redaction; what follows is never kept, secret or not. */
const MAX_EXAMINED_CHARS = 4096

// Each also matches the beginning of a secret whose end was cut off.
const SECRETS: ReadonlyArray<readonly [RegExp, string]> = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*/g, REDACTED],
  [/\b(bearer|basic|digest|negotiate)\s+[^\s,;"']+/gi, `$1 ${REDACTED}`],
  [/eyJ[A-Za-z0-9_-]{6,}[A-Za-z0-9_.=-]*/g, REDACTED],
  [/\bses_[A-Za-z0-9_-]{8,}/g, REDACTED],
  [/\b[a-z][a-z0-9]{1,15}_[a-z][a-z0-9]{0,15}_[0-9A-Za-z]{12}_[0-9A-Za-z_]+/g, REDACTED],
  [/(\b[a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/@]*@/gi, `$1${REDACTED}@`],
  [/\b((?:set-)?cookie\s*[:=]\s*)[^\r\n]+/gi, `$1${REDACTED}`],
  [/((?:pass(?:word|wd|phrase)?|secret|token|api[-_]?key|authorization|credential|session(?:id)?|jwt)["']?\s*[:=]\s*)(?!\[redacted\])("[^"]*"?|'[^']*'?|[^\s,;&"']+)/gi, `$1${REDACTED}`]
]

const SECRET_NAME = /pass(word|wd|phrase|code)?$|secret|token|authorization|cookie|credential|api[-_]?key|private[-_]?key|^jwt$|session[-_]?id/i

// Controls, line separators, invisible and direction-changing characters, halves of surrogate pairs. The expression must name what it removes.
// eslint-disable-next-line no-control-regex
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g

export const neutralize: Neutralize = value => {
  let text = value.length > MAX_EXAMINED_CHARS ? value.slice(0, MAX_EXAMINED_CHARS) : value
  for (const [pattern, replacement] of SECRETS) text = text.replace(pattern, replacement)
  text = text.replace(UNSAFE, character => `\\u{${character.charCodeAt(0).toString(16)}}`)
  const cut = value.length > MAX_EXAMINED_CHARS || text.length > MAX_CHARS
  return cut ? `${text.slice(0, MAX_CHARS)}...[${value.length} characters]` : text
}

/** Whether a member of this name is secret whatever its value; `more` are names the application adds, in lower case. */
export function isSecretName (name: string, more: ReadonlySet<string>): boolean {
  return SECRET_NAME.test(name) || more.has(name.toLowerCase())
}

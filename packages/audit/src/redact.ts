export const REDACTED = '[redacted]'

/**
 * Only this many characters are examined and kept; the rest is dropped, which also
 * bounds the time of the expressions.
 */
export const MAX_EXAMINED_CHARS = 4096

/**
 * What precedes the value of a secret: `password`, `api-key`, `"session_id"`, with a
 * colon or equals sign, escaped or not.
 */
const NAMES =
  'pass(?:word|wd|phrase|code)?|secret|token|api[-_]?key|private[-_]?key|signing[-_]?key|credentials?|session(?:[-_]?id)?|jwt|assertion'
const ASSIGNED = '["\'\\\\\\]]*\\s*(?:[:=]|%3[ad])\\s*'

// Each expression also matches the beginning of a secret whose end was cut off.
const SECRETS: ReadonlyArray<readonly [RegExp, string]> = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*/g, REDACTED],
  [/\b((?:proxy-)?authorization["'\\]*\s*(?:[:=,]|%3[ad])\s*)(?!\[redacted\])[^\r\n]+/gi, `$1${REDACTED}`],
  [/\b((?:set-)?cookie["'\\]*\s*(?:[:=,]|%3[ad])\s*)[^\r\n]+/gi, `$1${REDACTED}`],
  [/\b(bearer|basic|digest|negotiate|dpop)(?:\s|%20|\+)+[^\s,;"']+/gi, `$1 ${REDACTED}`],
  [/eyJ[A-Za-z0-9_-]{6,}[A-Za-z0-9_.=-]*/g, REDACTED],
  [/(?<![A-Za-z0-9])(?:ses|ref)_[A-Za-z0-9_-]{16,}/g, REDACTED],
  [/[a-z][a-z0-9-]{0,31}_[a-z0-9-]{1,32}_[0-9A-Za-z]{12}_[0-9A-Za-z_]{8,}/g, REDACTED],
  [
    new RegExp(`((?:${NAMES})${ASSIGNED})(?!\\[redacted\\])(\\\\*"[^"]*"?|\\\\*'[^']*'?|[^,;&"'\\r\\n]+)`, 'gi'),
    `$1${REDACTED}`
  ],
  [
    /([?&#;](?:code|key|sig|signature|auth|otp|pin|sid|state|nonce|x-amz-[a-z-]+)=)(?!\[redacted\])[^&#\s]+/gi,
    `$1${REDACTED}`
  ]
]

/** Fast path: strings without any character or word that one of the expressions above needs are returned unchanged. */
const PLAIN = /^[\w./ -]*$/
const SUSPECT = /eyJ|_|authorization|cookie|bearer|basic|digest|negotiate|dpop|PRIVATE/i

const URL_WITH_USER = /\b([a-z][a-z0-9+.-]{0,20}:\/\/)([^\s"'<>]+)/gi

/**
 * Replaces the secrets in a string: tokens, API keys, session ids, private keys, credentials of `Authorization` and
 * cookie headers, user names and passwords of URLs, and values of parameters with secret names. Only the first 4096
 * characters are examined and kept.
 */
export function redactText (text: string): string {
  const examined = text.length > MAX_EXAMINED_CHARS ? text.slice(0, MAX_EXAMINED_CHARS) : text
  if (PLAIN.test(examined) && !SUSPECT.test(examined)) return examined
  let safe = examined.replace(URL_WITH_USER, (_url, scheme: string, rest: string) => {
    const at = rest.lastIndexOf('@')
    return at === -1 ? `${scheme}${rest}` : `${scheme}${REDACTED}${rest.slice(at)}`
  })
  // The rest of a truncated URL may be part of a password.
  if (examined !== text) safe = safe.replace(/:\/\/[^\s"'<>]+$/, `://${REDACTED}`)
  for (const [pattern, replacement] of SECRETS) safe = safe.replace(pattern, replacement)
  return safe
}

const SECRET_NAME =
  /pass(word|wd|phrase|code)?$|secret|token|authorization|cookie|credential|api[-_]?key|private[-_]?key|signing[-_]?key|^jwt$|^assertion$|^otp$|session[-_]?id/i

/** Whether members of this name are always secret; `more` holds names that the application adds, in lower case. */
export function isSecretName (name: string, more: ReadonlySet<string>): boolean {
  return SECRET_NAME.test(name) || more.has(name.toLowerCase())
}

/** A URL that is safe to write: the path, and the names but not the values of the query. */
export function redactUrl (url: string): string {
  const end = url.indexOf('?')
  if (end === -1) return redactText(url)
  const names = url.slice(end + 1, end + 1 + MAX_EXAMINED_CHARS).split('&').map(pair => {
    const equals = pair.indexOf('=')
    return equals === -1 ? REDACTED : `${redactText(pair.slice(0, equals))}=${REDACTED}`
  })
  return `${redactText(url.slice(0, end))}?${names.join('&')}`
}

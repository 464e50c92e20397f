import type { Place, Rule, SourceFile } from '../finding.js'
import { looksRandom } from './randomness.js'

const ADVICE =
  'Replace the secret wherever it is used: others may know it, and git keeps it. Read the new secret from the ' +
    'environment or a secret store.'

export const privateKey: Rule = {
  name: 'private-key',
  severity: 'critical',
  summary: 'a private key in PEM form',
  find: ({ sources }) =>
    sources.flatMap(({ file, text }) =>
      [...text.matchAll(/-----BEGIN (?:[A-Z0-9]+ ){0,2}PRIVATE KEY(?: BLOCK)?-----/g)]
        // A PEM header alone, as in documentation, is not a key: base64 must follow it.
        .filter(({ index, 0: header }) =>
          /[A-Za-z0-9+/=]{40}/.test(
            text.slice(index + header.length, index + header.length + 600).split('-----END')[0]!
          )
        )
        .map(({ index }) => ({ file, index, message: 'a private key', advice: ADVICE }))
    )
}

/** Formats that their issuers designed to be recognised by scanners. */
const FORMATS: ReadonlyArray<readonly [string, RegExp]> = [
  ['an AWS access key id', /\b(?:AKIA|ASIA)[A-Z2-7]{16}\b/g],
  ['a GitHub token', /\bgh[pousr]_[A-Za-z0-9]{36,251}\b/g],
  ['a GitHub token', /\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b/g],
  ['a GitLab token', /\bglpat-[A-Za-z0-9_-]{20,}/g],
  ['a Slack token', /\bxox[abeoprs]-[A-Za-z0-9-]{20,}/g],
  ['a Stripe key', /\b[sr]k_live_[A-Za-z0-9]{20,}\b/g],
  ['a Google API key', /\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])/g],
  ['an npm token', /\bnpm_[A-Za-z0-9]{36}\b/g],
  ['a PyPI token', /\bpypi-[A-Za-z0-9_-]{50,}/g],
  ['a SendGrid key', /\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])/g],
  // No JWS algorithm makes signatures of less than 32 bytes (RFC 7518 section 3.1).
  ['a signed token (JWT)', /\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{43,}/g],
  [
    'an API key in the format of @marty/auth',
    /\b[a-z][a-z0-9]*_[a-z0-9-]+_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}\b/g
  ]
]

export const knownToken: Rule = {
  name: 'known-token',
  severity: 'critical',
  summary: 'a token in the format of a known service',
  find: ({ sources }) =>
    sources.flatMap(({ file, text }) =>
      FORMATS.flatMap(([what, pattern]) =>
        [...text.matchAll(pattern)]
          .filter(({ 0: token }) => !/EXAMPLE|(.)\1{7}/i.test(token))
          .map(({ index, 0: token }) => ({
            file,
            index,
            message: `${what} (${token.length} characters, not shown)`,
            advice: ADVICE
          }))
      )
    )
}

export const literalSecret: Rule = {
  name: 'literal-secret',
  severity: 'high',
  summary: 'a random-looking string assigned to a name like secret, password or apiKey',
  find: ({ sources }) =>
    sources
      .filter(({ file }) => !LOCK.test(file))
      .flatMap(source =>
        literalsOf(source).flatMap(({ name, value, index }): Place[] =>
          looksRandom(value)
            ? [
                {
                  file: source.file,
                  index,
                  message: `a literal secret is assigned to "${name}" (${value.length} characters, not shown)`,
                  advice: ADVICE
                }
              ]
            : []
        )
      )
}

const LOCK = /(?:^|\/)(?:package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml)$/
// Any characters may come before the keyword, but only some words after it: `secretPath` does not name a secret.
const NAME =
  '[\\w-]{0,60}(?:secret|passw(?:or)?d|passphrase|pwd|api[_-]?key|access[_-]?key|' +
  'private[_-]?key|signing[_-]?key|encryption[_-]?key|token|credentials?)(?:[_-]?(?:value|key|text|string))?\\d{0,3}'
const QUOTED = new RegExp(
  `(?<![\\w-])(${NAME})['"]?\\]?\\s{0,8}(?::\\s{0,4}[A-Za-z<>|\\s]{1,40}=|[:=]|=>)` +
  '\\s{0,8}(?:[\\w.$?!\\[\\]\'"]{1,100}\\s{0,4}(?:\\?\\?|\\|\\|)\\s{0,4})?([\'"`])([^\'"`\\s]{12,512})\\2',
  'gi'
)
const BARE = new RegExp(`(?<![\\w-])(${NAME})[ \\t]*[:=][ \\t]*([^'"\`\\s#;]{12,512})[ \\t]*(?:#.*)?\\r?$`, 'gim')

function literalsOf ({ file, text, language }: SourceFile): { name: string, value: string, index: number }[] {
  const quoted = [...text.matchAll(QUOTED)].map(({ index, 1: name = '', 3: value = '' }) => ({ name, value, index }))
  // Values without quotes count only in formats that need no quotes. In code, such a value would be a variable.
  const bare =
    language === 'other' &&
    /(?:^|\/)\.?env(?:\.[^/]*)?$|\.(?:env|ya?ml|ini|cfg|conf|properties|toml|sh|bash|tfvars)$|(?:^|\/)(?:Dockerfile|\.npmrc)[^/]*$/i.test(
      file
    )
      ? [...text.matchAll(BARE)].map(({ index, 1: name = '', 2: value = '' }) => ({ name, value, index }))
      : []
  return [...quoted, ...bare]
}

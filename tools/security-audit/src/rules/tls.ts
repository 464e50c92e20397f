import type { Rule } from '../finding.js'

const ADVICE = 'Set the certificate authority with the "ca" option or NODE_EXTRA_CA_CERTS instead.'

export const tlsUnverified: Rule = {
  name: 'tls-unverified',
  severity: 'high',
  summary: 'rejectUnauthorized: false',
  find: ({ sources }) =>
    sources
      .filter(({ language }) => language === 'javascript')
      .flatMap(({ file, uncommented, code }) =>
        [...uncommented.matchAll(/\brejectUnauthorized(?:['"]\s*\]?|)\s*[:=]\s*(?:false\b|!1)/g)]
          // Inside a string, the value was replaced in `code`.
          .filter(({ index, 0: found }) => code[index + found.length - 1] !== ' ')
          .map(({ index }) => ({
            file,
            index,
            message: 'TLS certificates are not verified: anyone on the network path can read and change the data',
            advice: ADVICE
          }))
      )
}

export const tlsEnvironment: Rule = {
  name: 'tls-unverified-env',
  severity: 'high',
  summary: 'NODE_TLS_REJECT_UNAUTHORIZED set to anything but 1',
  find: ({ sources }) =>
    sources
      .filter(({ language }) => language !== 'markdown')
      .flatMap(({ file, uncommented, language }) =>
        [
          ...uncommented.matchAll(
            language === 'javascript'
              ? /\bNODE_TLS_REJECT_UNAUTHORIZED(?:['"]\s*\]?|)\s*(?::|=(?!=))\s*(?!['"`]?1\b)\S/g
              : /\bNODE_TLS_REJECT_UNAUTHORIZED['"]?(?:\s*[:=]|[ \t]+(?=['"]?0))[ \t]*(?!['"]?1\b)\S/g
          )
        ].map(({ index }) => ({
          file,
          index,
          message: 'NODE_TLS_REJECT_UNAUTHORIZED turns certificate checks off for the whole process',
          advice: ADVICE
        }))
      )
}
